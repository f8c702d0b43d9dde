//! What stays the same on the wire: golden bytes of every message, decoders that no bytes can harm,
//! and the page that describes it all.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod page;
#[cfg(test)]
mod robustness;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod source;
