//! The order in which people count: `node2` before `node10`.

use std::cmp::Ordering;

/// Compares two texts with their digits read as numbers. Equal numbers with fewer leading zeros
/// come first, so the order is total and only equal texts are equal.
pub fn natural_cmp(left: &str, right: &str) -> Ordering {
    let mut rest = (left.as_bytes(), right.as_bytes());
    loop {
        match (rest.0.first(), rest.1.first()) {
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (a, after_a) = number(rest.0);
                let (b, after_b) = number(rest.1);
                let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
                if order != Ordering::Equal {
                    return order;
                }
                rest = (after_a, after_b);
            }
            (Some(a), Some(b)) if a == b => {
                rest = (tail(rest.0), tail(rest.1));
            }
            (Some(a), Some(b)) => return a.cmp(b),
            (None, None) => break,
            (a, b) => return a.is_some().cmp(&b.is_some()),
        }
    }
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// The number that the text begins with, without leading zeros, and what follows it.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, after) = text.split_at(end);
    let zeros = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    (digits.get(zeros..).unwrap_or_default(), after)
}

fn tail(text: &[u8]) -> &[u8] {
    text.get(1..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_inside_names_count() {
        let mut names = ["n10", "n2", "n1", "m9", "n02", "n2-b10", "n2-b9", "n", "n002"];
        names.sort_by(|a, b| natural_cmp(a, b));
        assert_eq!(names, ["m9", "n", "n1", "n2", "n02", "n002", "n2-b9", "n2-b10", "n10"]);
    }

    #[test]
    fn a_number_may_be_longer_than_any_integer() {
        let nines = "9".repeat(40);
        let one = format!("1{}", "0".repeat(40));
        assert_eq!(natural_cmp(&nines, &one), Ordering::Less);
    }

    proptest! {
        #[test]
        fn the_order_is_total(names in proptest::collection::vec("[a0-2]{0,5}", 3)) {
            let (a, b, c) = (&names[0], &names[1], &names[2]);
            prop_assert_eq!(natural_cmp(a, b), natural_cmp(b, a).reverse());
            prop_assert_eq!(natural_cmp(a, b) == Ordering::Equal, a == b);
            if natural_cmp(a, b).is_le() && natural_cmp(b, c).is_le() {
                prop_assert!(natural_cmp(a, c).is_le());
            }
        }
    }
}
