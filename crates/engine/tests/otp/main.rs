//! The restart rules against Erlang/OTP's own `supervisor`: what it did in each scenario is
//! recorded in `traces.txt`, and where Erlang is installed it is asked again.

#[cfg(test)]
mod perform;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod traces;
