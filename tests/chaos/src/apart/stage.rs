//! Two nodes in network namespaces of their own, with a cable between them.

use std::process::{Child, Command, Stdio};

use crate::home::Home;
use crate::violation::{Violation, machine};

/// Our end of the cable in each namespace.
const DEVICE: &str = "cable";
const ADDRESSES: [&str; 2] = ["10.213.7.1", "10.213.7.2"];
/// A network card that nobody has: what is sent there is lost without a word.
const NOBODY: &str = "02:00:00:00:00:99";

/// Which way is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Both,
    ToOther,
    FromOther,
}

/// See the module. Dropping it removes the namespaces.
pub(super) struct Stage {
    pub(super) owner: Home,
    pub(super) other: Home,
    spaces: Spaces,
    daemons: Vec<Child>,
}

impl Stage {
    /// Makes it; or says why this machine does not have it.
    ///
    /// # Errors
    /// When the nodes do not run.
    pub(super) fn new(first: &Home) -> Result<Result<Self, String>, Violation> {
        let spaces = match Spaces::new() {
            Ok(spaces) => spaces,
            Err(why) => return Ok(Err(why)),
        };
        let [owner, other] = [0, 1].map(|place| {
            let home = first.beside(if place == 0 { "owner" } else { "other" });
            home.map(|home| home.through(spaces.inside(place)))
        });
        let mut stage = Self { owner: owner?, other: other?, spaces, daemons: Vec::new() };
        for (place, name) in ["a", "b"].into_iter().enumerate() {
            let home = if place == 0 { &stage.owner } else { &stage.other };
            let address = ADDRESSES.get(place).copied().unwrap_or_default();
            let words = ["node", "run", "--name", name, "--listen", &format!("{address}:0")];
            let mut command = home.command(&words);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            stage.daemons.push(command.spawn().map_err(machine("a node"))?);
            home.address()?;
        }
        stage.owner.joined_by(&[&stage.other])?;
        Ok(Ok(stage))
    }

    /// Cuts the way.
    ///
    /// # Errors
    /// When it cannot.
    pub(super) fn cut(&self, way: Way) -> Result<(), Violation> {
        self.change(way, true)
    }

    /// Mends it.
    ///
    /// # Errors
    /// When it cannot.
    pub(super) fn mend(&self, way: Way) -> Result<(), Violation> {
        self.change(way, false)
    }

    fn change(&self, way: Way, is_cut: bool) -> Result<(), Violation> {
        let from = if way == Way::FromOther { 1 } else { 0 };
        let to = ADDRESSES.get(1 - from).copied().unwrap_or_default();
        let words = match (way, is_cut) {
            (Way::Both, true) => vec!["link", "set", DEVICE, "down"],
            (Way::Both, false) => vec!["link", "set", DEVICE, "up"],
            (_, true) => {
                let card = ["lladdr", NOBODY, "dev", DEVICE, "nud", "permanent"];
                [&["neigh", "replace", to][..], &card].concat()
            }
            (_, false) => vec!["neigh", "del", to, "dev", DEVICE],
        };
        let done = self.spaces.ip_inside(from, &words);
        done.map_err(|why| machine("a cut")(std::io::Error::other(why)))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = (self.mend(Way::Both), self.mend(Way::ToOther), self.mend(Way::FromOther));
        for home in [&self.owner, &self.other] {
            if let Some(pid) = home.daemon() {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
            }
            home.end();
        }
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Two namespaces, which are removed when this is dropped.
struct Spaces([String; 2]);

impl Spaces {
    fn new() -> Result<Self, String> {
        let names = ["a", "b"].map(|name| format!("sortie-{name}-{}", std::process::id()));
        let spaces = Self(names);
        let [one, two] = &spaces.0;
        ip(&["netns", "add", one])?;
        ip(&["netns", "add", two])?;
        let ours = ["link", "add", DEVICE, "netns", one, "type", "veth"];
        ip(&[&ours[..], &["peer", "name", DEVICE, "netns", two]].concat())?;
        for (place, address) in ADDRESSES.into_iter().enumerate() {
            let address = format!("{address}/24");
            spaces.ip_inside(place, &["addr", "add", &address, "dev", DEVICE])?;
            spaces.ip_inside(place, &["link", "set", "lo", "up"])?;
            spaces.ip_inside(place, &["link", "set", DEVICE, "up"])?;
        }
        Ok(spaces)
    }

    fn name(&self, place: usize) -> &str {
        self.0.get(place).map_or("", String::as_str)
    }

    fn ip_inside(&self, place: usize, words: &[&str]) -> Result<(), String> {
        ip(&[&["-n", self.name(place)], words].concat())
    }

    /// The words before a command that runs inside.
    fn inside(&self, place: usize) -> Vec<String> {
        ["ip", "netns", "exec", self.name(place)].map(str::to_owned).to_vec()
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("`ip {}`: {said}", words.join(" "))) }
}
