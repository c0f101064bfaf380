//! The frames that everything of Osmocom's is sent in: encoded, and decoded however they come split or joined.
//!
//! A frame is the length of its payload (two octets, the higher first), an octet for the protocol, and the
//! payload. Source: OsmoHLR user manual, "Control interface" and "GSUP"; seen with osmo-hlr 1.5.0.

/// The protocol of the connection itself: who is there, and whether.
pub(super) const CCM: u8 = 0xfe;
/// The protocol of Osmocom's own extensions; the payload's first octet says which.
pub(super) const OSMO: u8 = 0xee;

/// The first octet of a [`CCM`] payload.
pub(super) const PING: u8 = 0x00;
pub(super) const PONG: u8 = 0x01;
pub(super) const WHO: u8 = 0x04;
pub(super) const I_AM: u8 = 0x05;
pub(super) const WELCOME: u8 = 0x06;

/// The longest payload that is sent: ours have a third of that, and one of 1,197 octets aborts osmo-hlr 1.5.0.
pub(super) const SENT_MAX: usize = 256;

/// The longest payload that is read; an HLR's have some hundred octets.
pub(super) const READ_MAX: usize = 8192;

const HEAD: usize = 3;

/// One frame that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) protocol: u8,
    pub(super) payload: Vec<u8>,
}

/// A payload that is too long: to be sent, or to be what it is taken for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// A frame as it is sent.
pub(super) fn encode(protocol: u8, payload: &[u8]) -> Result<Vec<u8>, TooLong> {
    let length = u16::try_from(payload.len()).map_err(|_| TooLong)?;
    if payload.len() > SENT_MAX {
        return Err(TooLong);
    }
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.extend(length.to_be_bytes());
    frame.push(protocol);
    frame.extend(payload);
    Ok(frame)
}

/// Takes the first frame out of what was read, where it is there as a whole.
pub(super) fn decode(read: &mut Vec<u8>) -> Result<Option<Frame>, TooLong> {
    let Some(&[high, low, protocol]) = read.first_chunk::<HEAD>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > READ_MAX {
        return Err(TooLong);
    }
    if read.len() < HEAD + length {
        return Ok(None);
    }
    let payload = read[HEAD..HEAD + length].to_vec();
    read.drain(..HEAD + length);
    Ok(Some(Frame { protocol, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_framed_as_the_hlr_reads_it() {
        let framed = encode(OSMO, b"\0GET 7 subscriber.by-id-1.cs-enabled").unwrap();
        assert_eq!(framed[..4], [0x00, 0x24, 0xee, 0x00]);
        assert_eq!(framed.len(), 3 + 0x24);
    }

    #[test]
    fn frames_are_found_in_whatever_pieces_they_come() {
        let sent =
            [encode(CCM, &[PING]).unwrap(), encode(OSMO, b"").unwrap(), encode(OSMO, b"\0GET").unwrap()];
        let sent: Vec<u8> = sent.concat();
        for piece in 1..=sent.len() {
            let (mut read, mut frames) = (Vec::new(), Vec::new());
            for piece in sent.chunks(piece) {
                read.extend(piece);
                while let Some(frame) = decode(&mut read).unwrap() {
                    frames.push((frame.protocol, frame.payload));
                }
            }
            assert_eq!(frames, [(CCM, vec![PING]), (OSMO, vec![]), (OSMO, b"\0GET".to_vec())]);
            assert!(read.is_empty());
        }
    }

    #[test]
    fn what_is_too_long_is_neither_sent_nor_awaited() {
        assert!(encode(OSMO, &[0; SENT_MAX]).is_ok());
        assert_eq!(encode(OSMO, &[0; SENT_MAX + 1]), Err(TooLong));
        assert_eq!(encode(OSMO, &[0; 70_000]), Err(TooLong));
        assert_eq!(decode(&mut vec![0xff, 0xff, OSMO]), Err(TooLong));
    }
}
