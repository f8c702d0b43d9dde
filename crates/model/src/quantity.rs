//! Durations, sizes and counts as people type them and as they are shown to people.

mod duration;
mod size;

use std::num::NonZeroU32;

use crate::limits::{self, RESTARTS_MOST};
use crate::restart::Intensity;
use crate::spec::{MaxFails, Throttle};

pub use duration::{ShownDuration, parse_duration, show_duration};
pub use size::{ShownSize, parse_size, show_size};

/// Why a text is not the quantity that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadQuantity {
    /// Not a duration.
    #[error("`{0}` is no duration; write it as `90s`, `1h 30m` or `250ms`")]
    Duration(String),
    /// A duration that is too long.
    #[error("`{0}` is too long; a duration is at most {DAYS_MOST} days")]
    LongDuration(String),
    /// Not a size.
    #[error("`{0}` is no size; write it as `64MiB`, `10kB` or a number of bytes")]
    Size(String),
    /// A unit that may mean 1,000 or 1,024.
    #[error(
        "`{unit}` in `{text}` may mean two things; write `{unit}iB` (1024) or `{unit}B` (1000)"
    )]
    AmbiguousUnit {
        /// The whole text.
        text: String,
        /// The unit.
        unit: String,
    },
    /// A size that is too large.
    #[error("`{0}` is too large; a size is below 16 EiB")]
    LargeSize(String),
    /// Not a throttle.
    #[error("`{0}` is no throttle; write a number from 1 to {COUNT_MOST}, or `unlimited`")]
    Throttle(String),
    /// Not a number of failures.
    #[error(
        "`{0}` is no number of failures; write a number from 1 to {COUNT_MOST}, or a share such as \
         `10%`"
    )]
    MaxFails(String),
    /// Not an intensity.
    #[error(
        "`{0}` is no intensity; write restarts and their period as `5/10s`, at most \
         {RESTARTS_MOST} within {PERIOD_DAYS_MOST} days"
    )]
    Intensity(String),
}

/// The largest number that [`count`] reads.
const COUNT_MOST: u32 = u32::MAX;
const DAYS_MOST: u64 = limits::LONGEST.as_secs() / 86_400;
const PERIOD_DAYS_MOST: u64 = limits::RESTART_PERIOD_LONGEST.as_secs() / 86_400;

/// Reads `5/10s`: how many restarts are allowed in which time.
///
/// # Errors
/// [`BadQuantity::Intensity`], also for one that [`Intensity::new`] refuses.
pub fn parse_intensity(text: &str) -> Result<Intensity, BadQuantity> {
    let read = || {
        let (restarts, period) = text.split_once('/')?;
        let restarts = count(restarts.trim())?;
        Intensity::new(restarts, parse_duration(period).ok()?).ok()
    };
    read().ok_or_else(|| BadQuantity::Intensity(text.to_owned()))
}

/// Reads `--throttle`: a number from 1, or `unlimited`.
///
/// # Errors
/// [`BadQuantity::Throttle`].
pub fn parse_throttle(text: &str) -> Result<Throttle, BadQuantity> {
    if text.trim().eq_ignore_ascii_case("unlimited") {
        return Ok(Throttle::Unlimited);
    }
    let most = count(text.trim()).and_then(NonZeroU32::new);
    most.map(Throttle::AtMost).ok_or_else(|| BadQuantity::Throttle(text.to_owned()))
}

/// Reads `--max-fails`: the number of failures at which the rest is stopped, or the share of all
/// children above which it is. `1` is `--fail-fast`.
///
/// # Errors
/// [`BadQuantity::MaxFails`] for zero, for a share above 100 %, and for anything else.
pub fn parse_max_fails(text: &str) -> Result<MaxFails, BadQuantity> {
    let text = text.trim();
    let read = || match text.strip_suffix('%') {
        Some(share) => {
            let share = u8::try_from(count(share.trim())?).ok()?;
            (1..=100).contains(&share).then_some(MaxFails::Percent(share))
        }
        // The model counts the failures that are put up with, the command line the one that is not.
        None => count(text)?.checked_sub(1).map(MaxFails::Count),
    };
    read().ok_or_else(|| BadQuantity::MaxFails(text.to_owned()))
}

/// A number without sign, separator or exponent.
fn count(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// What stands for each whole number that is too large for any quantity.
const TOO_LARGE: u128 = 1 << u64::BITS;

/// `12.5` as 12 and 500,000,000 billionths; more than nine decimals are refused.
fn decimal(text: &str) -> Option<(u128, u32)> {
    let (whole, decimals) = match text.split_once('.') {
        Some((whole, decimals)) if !decimals.is_empty() => (whole, decimals),
        Some(_) => return None,
        None => (text, ""),
    };
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(decimals) || decimals.len() > 9 {
        return None;
    }
    // Digits that are no number are too many.
    let whole = whole.parse::<u64>().map_or(TOO_LARGE, u128::from);
    Some((whole, format!("{decimals:0<9}").parse().ok()?))
}

/// The number a text begins with, and what follows it.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|found: char| !found.is_ascii_digit() && found != '.');
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_throttle_is_a_number_from_one_or_unlimited() {
        let most = |most| NonZeroU32::new(most).map(Throttle::AtMost);
        assert_eq!(parse_throttle("32").ok(), most(32));
        assert_eq!(parse_throttle("Unlimited"), Ok(Throttle::Unlimited));
        for bad in ["0", "", "-1", "+1", "1.5", "all", "4294967296"] {
            assert_eq!(parse_throttle(bad), Err(BadQuantity::Throttle(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn max_fails_is_the_failure_at_which_the_rest_is_stopped() {
        assert_eq!(parse_max_fails("1"), Ok(MaxFails::Count(0)));
        assert_eq!(parse_max_fails("3"), Ok(MaxFails::Count(2)));
        assert_eq!(parse_max_fails("10%"), Ok(MaxFails::Percent(10)));
        for bad in ["0", "0%", "101%", "%", "", "-1", "ten", "1.5%"] {
            assert_eq!(parse_max_fails(bad), Err(BadQuantity::MaxFails(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn an_intensity_has_restarts_and_a_period() {
        let intensity = Intensity::new(5, Duration::from_secs(90)).expect("in bounds");
        assert_eq!(parse_intensity("5/1m 30s"), Ok(intensity));
        for bad in ["5", "5/", "/5s", "5/0s", "x/5s", "5/5 potatoes", "100001/5s", "5/31d"] {
            assert_eq!(parse_intensity(bad), Err(BadQuantity::Intensity(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn an_error_says_what_to_write() {
        assert_eq!(
            parse_size("10k").unwrap_err().to_string(),
            "`k` in `10k` may mean two things; write `kiB` (1024) or `kB` (1000)"
        );
        assert_eq!(
            parse_duration("soon").unwrap_err().to_string(),
            "`soon` is no duration; write it as `90s`, `1h 30m` or `250ms`"
        );
        assert_eq!(
            parse_duration("4000d").unwrap_err().to_string(),
            "`4000d` is too long; a duration is at most 3650 days"
        );
        let many = "99999999999999999999";
        assert_eq!(parse_size(many), Err(BadQuantity::LargeSize(many.to_owned())));
        for long in [many.to_owned(), format!("{many}d"), format!("{many}h {many}m")] {
            assert_eq!(parse_duration(&long), Err(BadQuantity::LongDuration(long)));
        }
        assert_eq!(parse_size("18446744073709551615"), Ok(u64::MAX));
        let said = parse_throttle(many).unwrap_err().to_string();
        assert!(said.contains("from 1 to 4294967295, or `unlimited`"), "{said}");
    }
}
