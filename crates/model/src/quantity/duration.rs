use std::fmt;
use std::time::Duration;

use super::{BadQuantity, decimal, split_number};
use crate::limits;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Reads `90s`, `1h 30m`, `250ms`, `1.5h`, `2d`; a bare number is seconds. Units are `d`, `h`, `m`,
/// `s`, `ms`, `us` and `ns`, from large to small, each at most once.
///
/// # Errors
/// [`BadQuantity::Duration`], and [`BadQuantity::LongDuration`] above [`limits::LONGEST`].
pub fn parse_duration(text: &str) -> Result<Duration, BadQuantity> {
    let bad = || BadQuantity::Duration(text.to_owned());
    let too_long = || BadQuantity::LongDuration(text.to_owned());
    let mut rest = text.trim();
    if let Some((seconds, billionths)) = decimal(rest) {
        return bounded(nanos(seconds, billionths, 1_000_000_000)).ok_or_else(too_long);
    }
    let mut sum = Some(0_u128);
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let after = after.trim_start();
        let end = after.find(|found: char| !found.is_ascii_alphabetic()).unwrap_or(after.len());
        let (word, behind) = after.split_at(end);
        let unit = unit(word).filter(|unit| *unit < smallest).ok_or_else(bad)?;
        let (whole, billionths) = decimal(number).ok_or_else(bad)?;
        sum = sum.and_then(|sum| sum.checked_add(nanos(whole, billionths, unit)));
        smallest = unit;
        rest = behind.trim_start();
    }
    if smallest == u64::MAX {
        return Err(bad());
    }
    sum.and_then(bounded).ok_or_else(too_long)
}

/// A unit in nanoseconds.
fn unit(word: &str) -> Option<u64> {
    Some(match word {
        "d" => DAY * 1_000_000_000,
        "h" => HOUR * 1_000_000_000,
        "m" | "min" => MINUTE * 1_000_000_000,
        "s" | "sec" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        _ => return None,
    })
}

fn nanos(whole: u128, billionths: u32, unit: u64) -> u128 {
    let unit = u128::from(unit);
    whole * unit + u128::from(billionths) * unit / 1_000_000_000
}

fn bounded(nanos: u128) -> Option<Duration> {
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let span = Duration::new(seconds, (nanos % 1_000_000_000) as u32);
    (span <= limits::LONGEST).then_some(span)
}

/// A duration for people, as `1h 30m` or `250ms`: exact, and [`parse_duration`] reads it back.
pub const fn show_duration(span: Duration) -> ShownDuration {
    ShownDuration(span)
}

/// See [`show_duration`].
#[derive(Debug, Clone, Copy)]
pub struct ShownDuration(Duration);

impl fmt::Display for ShownDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        let parts = [
            (seconds / DAY, "d"),
            (seconds % DAY / HOUR, "h"),
            (seconds % HOUR / MINUTE, "m"),
            (seconds % MINUTE, "s"),
            (u64::from(nanos / 1_000_000), "ms"),
            (u64::from(nanos / 1_000 % 1_000), "us"),
            (u64::from(nanos % 1_000), "ns"),
        ];
        let mut words = parts.iter().filter(|(count, _)| *count > 0);
        let Some((count, unit)) = words.next() else { return f.pad("0s") };
        let mut text = format!("{count}{unit}");
        for (count, unit) in words {
            text.push_str(&format!(" {count}{unit}"));
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Duration) {
        assert_eq!(parse_duration(text), Ok(expected), "{text}");
    }

    #[test]
    fn durations_read_as_people_write_them() {
        check("90s", Duration::from_secs(90));
        check("1h 30m", Duration::from_secs(5_400));
        check("1h30m", Duration::from_secs(5_400));
        check(" 2 d ", Duration::from_secs(172_800));
        check("250ms", Duration::from_millis(250));
        check("1.5h", Duration::from_secs(5_400));
        check("0.5", Duration::from_millis(500));
        check("10", Duration::from_secs(10));
        check("0", Duration::ZERO);
        check("1s 1ns", Duration::new(1, 1));
        check("10us", Duration::from_micros(10));
        check("2min", Duration::from_secs(120));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            "",
            " ",
            "s",
            "1h 30",
            "30m 1h",
            "1m 1m",
            "-1s",
            "+1s",
            "1e3s",
            "1..5s",
            "1.s",
            ".5s",
            "5S",
            "1,5s",
            "ten",
            "5 weeks",
            "é",
            "0.0000000001s",
        ] {
            assert_eq!(parse_duration(bad), Err(BadQuantity::Duration(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn a_duration_that_no_timer_takes_is_refused() {
        check("3650d", limits::LONGEST);
        for bad in ["3650d 1ns", "18446744073709551615d", "18446744073709551615"] {
            let expected = Err(BadQuantity::LongDuration(bad.to_owned()));
            assert_eq!(parse_duration(bad), expected, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(nanos in 0..=limits::LONGEST.as_nanos(), cut in 0..18_u32) {
            let nanos = nanos / 10_u128.pow(cut);
            let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            let span = Duration::new(seconds as u64, nanos as u32);
            prop_assert_eq!(parse_duration(&show_duration(span).to_string()), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "[0-9.dhms ]{0,40}|.{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}
