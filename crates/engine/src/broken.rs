//! Rules that are broken on purpose, one for each promise, to see that the simulation finds it.
//!
//! Nothing can be broken in a build without debug assertions, such as a release: [`is_broken`] is a
//! constant there. Only `cargo xtask simulate --broken` breaks a rule.

/// The rule that is broken, named after the promise that it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A host accepts a child once.
    P1 = 1,
    /// What a node may not have heard is said to it again.
    P2,
    /// A stop changes nothing that is finished.
    P3,
    /// What was acknowledged is never offered again.
    P4,
    /// Records are stored before the end that follows them is told.
    P5,
    /// What was offered and not acknowledged is offered again.
    P6,
    /// What runs for an owner ends with its lease.
    P9,
    /// A job gives up past its intensity.
    P15,
}

#[cfg(debug_assertions)]
static BROKEN: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Breaks one rule, in the whole process and for good.
#[cfg(debug_assertions)]
pub fn break_rule(rule: Rule) {
    BROKEN.store(rule as u8, std::sync::atomic::Ordering::Relaxed);
}

/// Whether that rule is broken.
#[cfg(debug_assertions)]
pub fn is_broken(rule: Rule) -> bool {
    BROKEN.load(std::sync::atomic::Ordering::Relaxed) == rule as u8
}

/// Whether that rule is broken: never.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn is_broken(_: Rule) -> bool {
    false
}
