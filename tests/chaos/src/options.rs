//! The options of a run.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const USAGE: &str =
    "usage: chaos [--binary PATH] [--short] [--scenario NAME]... [--seed N] [--kills N]
             [--minutes N] [--mebibytes N] [--cut-seconds N] [--running N]

  --binary PATH    the `sortie` command; the one beside this program unless said otherwise
  --short          every scenario for some seconds
  --scenario NAME  daemon, clients, guardian, links, map, elsewhere, disk, full, apart; every
                   one unless said otherwise
  --seed N         what is done follows from it; another one each time unless said
  --kills N        kills of each scenario, of the guardian a tenth; 1,000 unless said otherwise
  --minutes N      how long each scenario goes on at most until it comes to its end; 60 unless
                   said otherwise
  --mebibytes N    what goes through links that are cut; 10,240 unless said otherwise
  --running N      processes of jobs that run at every moment of a long run under kills, for up
                   to half an hour each; as it comes unless said
  --cut-seconds N  how long a cut lasts at most; 60 unless said otherwise. Of `apart`: one length
                   more, if it is a longer one";

/// Kills of each scenario.
const KILLS: (u64, u64) = (8, 1_000);
/// How long a scenario goes on at most.
const TIME: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(3_600));

/// What goes through links that are cut, in MiB.
const MEBIBYTES: (u64, u64) = (16, 10_240);

/// How long a cut lasts at most.
const CUT: (Duration, Duration) = (Duration::from_millis(1_500), Duration::from_secs(60));

/// A scenario, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Daemon,
    Clients,
    Guardian,
    Links,
    Map,
    Elsewhere,
    Disk,
    Full,
    Apart,
}

impl Scenario {
    pub(crate) const ALL: [Self; 9] = [
        Self::Daemon,
        Self::Clients,
        Self::Guardian,
        Self::Links,
        Self::Map,
        Self::Elsewhere,
        Self::Disk,
        Self::Full,
        Self::Apart,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Clients => "clients",
            Self::Guardian => "guardian",
            Self::Links => "links",
            Self::Map => "map",
            Self::Elsewhere => "elsewhere",
            Self::Disk => "disk",
            Self::Full => "full",
            Self::Apart => "apart",
        }
    }
}

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Short,
    Long,
}

/// See [`USAGE`].
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) binary: PathBuf,
    pub(crate) size: Size,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) seed: u64,
    pub(crate) kills: u64,
    pub(crate) time: Duration,
    pub(crate) mebibytes: u64,
    pub(crate) cut: Duration,
    /// None as 0.
    pub(crate) running: u64,
}

impl Options {
    /// Reads them; none when they cannot be read.
    pub(crate) fn read(words: &[String]) -> Option<Self> {
        let size =
            if words.iter().any(|word| word == "--short") { Size::Short } else { Size::Long };
        let of_size = |short, long| if size == Size::Short { short } else { long };
        let mut options = Self {
            binary: std::env::current_exe().ok()?.with_file_name("sortie"),
            size,
            scenarios: Vec::new(),
            seed: SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs(),
            kills: of_size(KILLS.0, KILLS.1),
            time: if size == Size::Short { TIME.0 } else { TIME.1 },
            mebibytes: of_size(MEBIBYTES.0, MEBIBYTES.1),
            cut: if size == Size::Short { CUT.0 } else { CUT.1 },
            running: 0,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let number = |word: Option<&String>| word?.parse::<u64>().ok();
            match word.as_str() {
                "--short" => {}
                "--binary" => options.binary = std::path::absolute(words.next()?).ok()?,
                "--seed" => options.seed = number(words.next())?,
                "--kills" => options.kills = number(words.next())?,
                "--mebibytes" => options.mebibytes = number(words.next())?,
                "--minutes" => options.time = Duration::from_secs(60 * number(words.next())?),
                "--running" => options.running = number(words.next())?,
                "--cut-seconds" => options.cut = Duration::from_secs(number(words.next())?),
                "--scenario" => {
                    let name = words.next()?;
                    let found = Scenario::ALL.into_iter().find(|known| known.name() == name)?;
                    options.scenarios.push(found);
                }
                _ => return None,
            }
        }
        if options.scenarios.is_empty() {
            options.scenarios.extend(Scenario::ALL);
        }
        if !options.binary.is_file() {
            eprintln!("chaos: {} is not built", options.binary.display());
            return None;
        }
        Some(options)
    }
}
