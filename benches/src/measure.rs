//! Measuring in turn, and what comes of several measurements.

use std::time::{Duration, Instant};

use crate::program::Outcome;

/// How often each side is measured; the median counts.
pub const ROUNDS: usize = 5;

/// Our figures beside the limit's.
#[derive(Debug, Clone, Copy)]
pub struct Pair<const N: usize> {
    /// Ours.
    pub ours: [f64; N],
    /// The limit's.
    pub limit: [f64; N],
}

/// Measures ours and the limit in turn, [`ROUNDS`] times, and gives the medians.
///
/// # Errors
/// The first error of either.
pub async fn in_turn<const N: usize>(
    mut ours: impl AsyncFnMut() -> Outcome<[f64; N]>,
    mut limit: impl AsyncFnMut() -> Outcome<[f64; N]>,
) -> Outcome<Pair<N>> {
    let mut figures = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        figures.0.push(ours().await?);
        figures.1.push(limit().await?);
    }
    Ok(Pair { ours: medians(&figures.0), limit: medians(&figures.1) })
}

/// The median of each place.
fn medians<const N: usize>(figures: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|place| {
        let column = figures.iter().filter_map(|row| row.get(place).copied());
        quantile(column.collect(), 0.5)
    })
}

/// The value below which that share of the figures lies; not a number when there are none.
pub fn quantile(mut figures: Vec<f64>, share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    figures.get(place).copied().unwrap_or(f64::NAN)
}

/// Waits until `condition` gives something: what other processes do can only be asked for.
///
/// # Errors
/// The condition's, and one that names `what` when it gives nothing for 30 seconds.
pub async fn until<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Outcome<Option<T>>,
) -> Outcome<T> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = condition().await? {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("waited in vain for {what}").into());
        }
        // tidy: waits because a condition in another process can only be polled
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_figures() {
        let figures = || vec![5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(quantile(figures(), 0.5), 3.0);
        assert_eq!(quantile(figures(), 0.99), 5.0);
        assert_eq!(medians(&[[1.0, 9.0], [3.0, 7.0], [2.0, 8.0]]), [2.0, 8.0]);
    }
}
