use std::fmt;

use super::{BadQuantity, decimal, split_number};

/// Reads `64MiB`, `1.5 GiB`, `10kB`, `512B` or a bare number of bytes. `KiB` and its kin count by
/// 1,024, `kB` and its kin by 1,000; a bare `k` is refused, since it may mean either.
///
/// # Errors [`BadQuantity::Size`], [`BadQuantity::AmbiguousUnit`], and [`BadQuantity::LargeSize`]
/// from 16 EiB.
pub fn parse_size(text: &str) -> Result<u64, BadQuantity> {
    let bad = || BadQuantity::Size(text.to_owned());
    let (number, unit) = split_number(text.trim());
    let unit = unit.trim_start();
    let (whole, billionths) = decimal(number).ok_or_else(bad)?;
    let factor = factor(text, unit)?;
    if factor == 1 && billionths > 0 {
        return Err(bad());
    }
    let bytes = whole * factor + u128::from(billionths) * factor / 1_000_000_000;
    u64::try_from(bytes).map_err(|_| BadQuantity::LargeSize(text.to_owned()))
}

fn factor(text: &str, unit: &str) -> Result<u128, BadQuantity> {
    let bad = || BadQuantity::Size(text.to_owned());
    let lower = unit.to_ascii_lowercase();
    let Some(prefix) = lower.chars().next().filter(|first| *first != 'b') else {
        return if unit.len() < 2 { Ok(1) } else { Err(bad()) };
    };
    let power = match prefix {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        'p' => 5,
        'e' => 6,
        _ => return Err(bad()),
    };
    match lower.get(1..) {
        Some("ib") => Ok(1_024_u128.pow(power)),
        Some("b") => Ok(1_000_u128.pow(power)),
        Some("") => {
            Err(BadQuantity::AmbiguousUnit { text: text.to_owned(), unit: unit.to_owned() })
        }
        _ => Err(bad()),
    }
}

/// A size for people, as `64 MiB` or `1.5 GiB`: at most one decimal, rounded down.
pub const fn show_size(bytes: u64) -> ShownSize {
    ShownSize(bytes)
}

/// See [`show_size`].
#[derive(Debug, Clone, Copy)]
pub struct ShownSize(u64);

impl fmt::Display for ShownSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["EiB", "PiB", "TiB", "GiB", "MiB", "KiB"];
        let large = (1..=6_u32).rev().zip(units).find(|(power, _)| self.0 >> (10 * power) > 0);
        let Some((power, unit)) = large else { return f.pad(&format!("{} B", self.0)) };
        let tenths = (u128::from(self.0) * 10) >> (10 * power);
        let (whole, tenth) = (tenths / 10, tenths % 10);
        let text = match tenth {
            0 => format!("{whole} {unit}"),
            tenth => format!("{whole}.{tenth} {unit}"),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: u64) {
        assert_eq!(parse_size(text), Ok(expected), "{text}");
    }

    #[test]
    fn binary_and_decimal_units_are_kept_apart() {
        check("64MiB", 64 << 20);
        check("64 mib", 64 << 20);
        check("10kB", 10_000);
        check("10KiB", 10_240);
        check("1.5 GiB", 3 << 29);
        check("512", 512);
        check("512B", 512);
        check("0", 0);
        check("18446744073709551615", u64::MAX);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in ["", "MiB", "1.5", "1.5B", "-1", "1 XB", "1MiBs", "10bb", "1,5MiB", "1é", "1mé"]
        {
            assert_eq!(parse_size(bad), Err(BadQuantity::Size(bad.to_owned())), "{bad}");
        }
        for bad in ["16EiB", "18446744073709551615kB"] {
            assert_eq!(parse_size(bad), Err(BadQuantity::LargeSize(bad.to_owned())), "{bad}");
        }
        let (text, unit) = ("10 M".to_owned(), "M".to_owned());
        assert_eq!(parse_size("10 M"), Err(BadQuantity::AmbiguousUnit { text, unit }));
    }

    #[test]
    fn sizes_are_shown_with_the_largest_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (64 << 20, "64 MiB"),
            (3 << 29, "1.5 GiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(show_size(bytes).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_within_a_tenth(bytes in any::<u64>(), shift in 0..64_u32) {
            let bytes = bytes >> shift;
            let read = parse_size(&show_size(bytes).to_string()).unwrap();
            prop_assert!(read <= bytes && bytes - read <= bytes / 10);
        }

        #[test]
        fn no_text_panics(text in "[0-9.kKmMiB ]{0,30}|.{0,20}") {
            let _ = parse_size(&text);
        }
    }
}
