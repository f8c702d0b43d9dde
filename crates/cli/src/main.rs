//! The `sortie` command: command line, node daemon, and throw-away cluster in one binary.

mod args;
mod exit;
mod failure;
mod render;

fn main() {
    sortie::init();
}
