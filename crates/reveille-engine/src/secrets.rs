//! Secrets: tokens as HMACs, digests of what is only compared, encryption of what must be sent in clear.

use reveille_domain::Timestamp;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{digest, hkdf, hmac};

/// Where randomness comes from; a test hands in its own.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);

    /// 128 random bits.
    fn bits(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

/// Everything that is derived from the server's key.
pub struct Secrets {
    tokens: hmac::Key,
    nonces: hmac::Key,
    seal: LessSafeKey,
}

/// How many bytes of the HMAC stand in a token: with the client's number, 32 hexadecimal digits in all.
const TOKEN_TAG_BYTES: usize = 12;

impl Secrets {
    /// The secrets of that key.
    pub fn new(key: &[u8; 32]) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"reveille");
        let derived = |purpose: &[u8]| -> [u8; 32] {
            let mut bytes = [0; 32];
            salt.extract(key)
                .expand(&[purpose], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut bytes))
                .expect("32 bytes are what HKDF-SHA256 expands to");
            bytes
        };
        let sealing = UnboundKey::new(&CHACHA20_POLY1305, &derived(b"callback passwords"));
        Self {
            tokens: hmac::Key::new(hmac::HMAC_SHA256, &derived(b"bearer tokens")),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, &derived(b"nonces of callback passwords")),
            seal: LessSafeKey::new(sealing.expect("32 bytes are a ChaCha20 key")),
        }
    }

    /// What tells this key from another, and nothing of the key.
    pub fn fingerprint(&self) -> [u8; 32] {
        let tag = hmac::sign(&self.tokens, b"the server's key");
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// The bearer token of a client that was issued then: any node makes the same one.
    pub fn token(&self, client: u32, issued_at: Timestamp) -> String {
        let tag = hmac::sign(&self.tokens, &token_bytes(client, issued_at));
        let bytes =
            client.to_be_bytes().into_iter().chain(tag.as_ref().iter().copied().take(TOKEN_TAG_BYTES));
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// The client that a token says it is of; whether that is so, `token` tells.
    pub fn client_of(token: &str) -> Option<u32> {
        let well_formed = token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        well_formed.then(|| u32::from_str_radix(&token[..8], 16).ok()).flatten()
    }

    /// The digest of a secret or a session token, by which it is kept and found.
    pub fn digest(text: &str) -> [u8; 32] {
        Self::digest_of(&[text.as_bytes()])
    }

    /// The digest of several parts one after the other.
    pub fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Whether two texts are the same, in a time that does not tell where they differ.
    pub fn same(left: &[u8], right: &[u8]) -> bool {
        left.len() == right.len() && left.iter().zip(right).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }

    /// Encrypts a callback password. The nonce is an HMAC of it, so that the same password under the same
    /// key is the same bytes: declaring it again changes nothing.
    pub fn seal(&self, password: &str) -> Box<[u8]> {
        let mut nonce = [0; NONCE_LEN];
        let tag = hmac::sign(&self.nonces, password.as_bytes());
        nonce.copy_from_slice(&tag.as_ref()[..NONCE_LEN]);
        let mut sealed = password.as_bytes().to_vec();
        self.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .expect("a password is far shorter than ChaCha20-Poly1305 can seal");
        nonce.into_iter().chain(sealed).collect()
    }

    /// Decrypts a callback password; nothing where it was sealed under another key.
    pub fn open(&self, sealed: &[u8]) -> Option<Box<str>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.seal.open_in_place(nonce, Aad::empty(), &mut bytes).ok()?;
        std::str::from_utf8(opened).ok().map(Into::into)
    }
}

fn token_bytes(client: u32, issued_at: Timestamp) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&client.to_be_bytes());
    bytes[4..].copy_from_slice(&issued_at.0.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_32_hexadecimal_digits_and_names_its_client() {
        let secrets = Secrets::new(&[1; 32]);
        let token = secrets.token(5, Timestamp(1_000));
        assert_eq!(token.len(), 32);
        assert_eq!(Secrets::client_of(&token), Some(5));
        assert_eq!(token, Secrets::new(&[1; 32]).token(5, Timestamp(1_000)));
        assert_ne!(token, secrets.token(5, Timestamp(1_001)));
        assert_ne!(token, Secrets::new(&[2; 32]).token(5, Timestamp(1_000)));
        assert_eq!(Secrets::client_of("garbage"), None);
    }

    #[test]
    fn a_password_is_read_back_under_its_own_key_only() {
        let sealed = Secrets::new(&[1; 32]).seal("secret");
        assert_eq!(Secrets::new(&[1; 32]).open(&sealed).as_deref(), Some("secret"));
        assert_eq!(Secrets::new(&[2; 32]).open(&sealed), None);
        assert_eq!(Secrets::new(&[1; 32]).seal("secret"), sealed);
        assert_ne!(Secrets::new(&[1; 32]).seal("other!")[..NONCE_LEN], sealed[..NONCE_LEN]);
        assert_eq!(Secrets::new(&[1; 32]).open(b"short"), None);
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
    }
}
