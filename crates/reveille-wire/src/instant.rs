//! Instants as text: RFC 3339, and the American form of an older surface.

use reveille_domain::Timestamp;

const DAY: i64 = 24 * 3_600_000;

/// A date of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

/// An instant in RFC 3339, in UTC, with milliseconds.
pub fn text(at: Timestamp) -> String {
    let Date { year, month, day } = date(at.0.div_euclid(DAY));
    let (hour, minute, second, milli) = time(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// An instant as `3/15/2017 12:00:00 AM`, in UTC. Source: contract §7, ResumeTrackingNotification.
pub(crate) fn american(at: Timestamp) -> String {
    let Date { year, month, day } = date(at.0.div_euclid(DAY));
    let (hour, minute, second, _) = time(at);
    let half = if hour < 12 { "AM" } else { "PM" };
    let hour = if hour % 12 == 0 { 12 } else { hour % 12 };
    format!("{month}/{day}/{year} {hour}:{minute:02}:{second:02} {half}")
}

/// The instant of `2021-10-15T04:49:35`, with or without fractions of a second and an offset; without one it
/// is UTC. Source: RFC 3339 §5.6, contract §5.4.
pub fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, offset) = rest.split_at(at);
    let day = days(parse_date(date)?)?;
    Some(Timestamp(day * DAY + parse_time(time)? - parse_offset(offset)?))
}

fn time(at: Timestamp) -> (i64, i64, i64, i64) {
    let millis = at.0.rem_euclid(DAY);
    (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60, millis % 1_000)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn parse_date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let date = Date {
        year: number(parts.next()?, 4)?,
        month: number(parts.next()?, 2)?,
        day: number(parts.next()?, 2)?,
    };
    parts.next().is_none().then_some(date)
}

/// Milliseconds since midnight.
fn parse_time(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = number(parts.next()?, 2)?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis = number(&format!("{fraction:0<3}")[..3], 3)?;
    Some(hour * 3_600_000 + minute * 60_000 + second * 1_000 + millis)
}

/// Milliseconds ahead of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    let sign = match text.chars().next() {
        None => return Some(0),
        Some('Z' | 'z') => return (text.len() == 1).then_some(0),
        Some('+') => 1,
        Some(_) => -1,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600_000 + minutes * 60_000))
}

/// Days since 1970-01-01, where there is such a date. Eras of 400 years begin in March, so that the leap day
/// comes last.
fn days(of: Date) -> Option<i64> {
    let shifted = (of.month + 9) % 12;
    let year = of.year - i64::from(of.month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * shifted + 2) / 5 + of.day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    (date(days) == of).then_some(days)
}

fn date(days: i64) -> Date {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    Date { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_and_read_back() {
        for at in [0, 951_782_399_999, 951_868_800_000, 1_769_860_800_123, 4_107_542_399_000] {
            assert_eq!(parse(&text(Timestamp(at))), Some(Timestamp(at)), "{at}");
        }
        assert_eq!(text(Timestamp(1_769_860_800_123)), "2026-01-31T12:00:00.123Z");
        assert_eq!(american(Timestamp(1_489_536_000_000)), "3/15/2017 12:00:00 AM");
        assert_eq!(american(Timestamp(1_489_582_805_000)), "3/15/2017 1:00:05 PM");
    }

    #[test]
    fn an_offset_is_taken_off_and_none_means_utc() {
        let utc = parse("2021-10-15T04:49:35");
        assert_eq!(utc, Some(Timestamp(1_634_273_375_000)));
        for same in ["2021-10-15T04:49:35-00:00", "2021-10-15T04:49:35Z", "2021-10-15T06:49:35.000+02:00"] {
            assert_eq!(parse(same), utc, "{same}");
        }
    }

    #[test]
    fn what_is_no_instant_is_not_read() {
        for text in [
            "",
            "2021-10-15",
            "2021-02-29T00:00:00",
            "2021-13-01T00:00:00",
            "2021-10-15T24:00:00",
            "2021-10-15T04:49",
            "2021-10-15T04:49:35+0200",
            "2021-10-15T04:49:35.",
            "21-10-15T04:49:35",
            "2021-10-15T04:49:35Zulu",
            "2021-00-10T04:49:35",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
