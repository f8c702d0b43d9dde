//! The verbs that read a session, asked of a real node in this process.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod linked;
#[cfg(test)]
mod lying;
#[cfg(test)]
mod monitoring;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod receiving;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod taken;
#[cfg(test)]
mod waiting;
#[cfg(test)]
mod watching;
