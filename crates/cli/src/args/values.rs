//! Single values: parsed here, so that a bad one is a usage error that says what is expected.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sortie::EMBEDDED_NODES;
use sortie_model::Timestamp;
use sortie_model::quantity::{BadQuantity, parse_duration, parse_size};
use sortie_model::spec::OsBytes;

use crate::args::work::node_name;
use crate::failure::Failure;
use crate::program;

/// A file, or `-` for our standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileOrStdin {
    /// The file.
    File(PathBuf),
    /// `-`.
    Stdin,
}

impl From<OsString> for FileOrStdin {
    fn from(word: OsString) -> Self {
        if word == "-" { Self::Stdin } else { Self::File(word.into()) }
    }
}

/// `90s`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, BadQuantity> {
    parse_duration(text)
}

/// `64MiB`.
pub(crate) fn size(text: &str) -> Result<u64, BadQuantity> {
    parse_size(text)
}

/// A moment: RFC 3339, or a duration ago.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(moment) = Timestamp::parse_rfc3339(text) {
        return Ok(moment);
    }
    let ago = parse_duration(text).map_err(|_| {
        format!("`{text}` is no moment; write `2026-01-31T09:30:00Z`, or `90s` for 90 seconds ago")
    })?;
    Ok(Timestamp::of(SystemTime::now()).earlier_by(ago))
}

/// Names of signals, without `SIG`, and their numbers on Linux.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The highest signal number.
const LAST_SIGNAL: i32 = 64;

/// `INT`, `SIGINT`, `int`, `2`.
pub(crate) fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    match text.parse() {
        Ok(number) if (1..=LAST_SIGNAL).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is no signal; write `INT`, `SIGINT` or a number up to 64")),
    }
}

/// `key=value`, both text.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no label; write `key=value`")),
    }
}

/// Bytes for a process; a NUL byte is a usage error.
pub(crate) fn os_bytes(word: &OsStr) -> Result<OsBytes, Failure> {
    OsBytes::try_from(bytes::Bytes::copy_from_slice(word.as_bytes())).map_err(Failure::usage)
}

/// A whole number.
pub(crate) fn whole(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| not_whole(text, u64::from(u32::MAX)))
}

/// A whole number that may be a long one.
pub(crate) fn long_whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| not_whole(text, u64::MAX))
}

/// As many nodes as one process can be.
pub(crate) fn embedded_nodes(text: &str) -> Result<usize, String> {
    let most = EMBEDDED_NODES;
    let nodes = text.parse().ok().filter(|nodes| (1..=most).contains(nodes));
    nodes.ok_or_else(|| format!("`{text}` is no number of nodes; write one from 1 to {most}"))
}

fn not_whole(text: &str, most: u64) -> String {
    let is_one = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let what = if is_one { "too large" } else { "no whole number" };
    let one = if is_one { "a number" } else { "one" };
    format!("`{text}` is {what}; write {one} from 0 to {most}")
}

/// A node's name, or where it listens.
pub(crate) fn node_or_address(text: &str) -> Result<String, String> {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_address = match text.parse::<SocketAddr>() {
        Ok(address) => address.port() > 0,
        Err(_) => {
            text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && is_port(port))
        }
    };
    if is_address || node_name(text).is_some() {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is neither a node's name nor an address; write a name that `{} node get` lists, \
         or `host:port` with a port from 1 to {}",
        program::name(),
        u16::MAX
    ))
}

/// `K=V` as `-e` and lines of `--env-file` spell it; `K` alone takes our own value.
pub(crate) fn variable(word: &OsStr) -> Result<Option<(OsBytes, OsBytes)>, Failure> {
    let bytes = word.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=');
    let (name, value) = match at {
        Some(at) => {
            let (name, rest) = bytes.split_at(at);
            let value = rest.get(1..).unwrap_or_default().to_vec();
            (OsStr::from_bytes(name), Some(OsString::from_vec(value)))
        }
        None => (word, std::env::var_os(word)),
    };
    if name.is_empty() {
        return Err(Failure::usage("a variable has no name")
            .hint("write `-e NAME=VALUE`, or `-e NAME` for our own value"));
    }
    value.map(|value| Ok((os_bytes(name)?, os_bytes(&value)?))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["INT", "SIGINT", "int", "2"] {
            assert_eq!(signal(text), Ok(2), "{text}");
        }
        assert_eq!(signal("64"), Ok(64));
        for bad in ["0", "65", "SIG", "", "-9", "TERMINATE"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_told_what_to_write() {
        assert_eq!(whole("7"), Ok(7));
        assert_eq!(long_whole("4294967296"), Ok(4_294_967_296));
        assert_eq!(embedded_nodes("1"), Ok(1));
        for bad in ["x", "-1", "", "1.5"] {
            let said = whole(bad).expect_err(bad);
            assert_eq!(said, format!("`{bad}` is no whole number; write one from 0 to 4294967295"));
        }
        let large = |text: &str, most: &str| {
            Err(format!("`{text}` is too large; write a number from 0 to {most}"))
        };
        assert_eq!(whole("4294967296").map(u64::from), large("4294967296", "4294967295"));
        let text = "18446744073709551616";
        assert_eq!(long_whole(text), large(text, "18446744073709551615"));
        for bad in ["0", "x", &(EMBEDDED_NODES + 1).to_string()] {
            assert!(embedded_nodes(bad).expect_err(bad).contains("write one from 1 to"), "{bad}");
        }
    }

    #[test]
    fn a_node_is_a_name_or_an_address_with_a_port() {
        for good in ["web1", "a_b", "localhost:7000", "127.0.0.1:1", "[::1]:65535", "a.b.c:80"] {
            assert_eq!(node_or_address(good), Ok(good.to_owned()));
        }
        for bad in ["", ":80", "a:", "a:0", "127.0.0.1:0", "[::1]:0", "a:65536", "a:x", "a/b", "*"]
        {
            let said = node_or_address(bad).expect_err(bad);
            assert!(said.contains("a port from 1 to 65535"), "{said}");
        }
    }

    #[test]
    fn a_moment_is_a_date_or_a_while_ago() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Timestamp(1_000_000)));
        let now = Timestamp::of(SystemTime::now());
        let ago = moment("1h").expect("an hour ago");
        assert!(ago < now && ago > now.earlier_by(Duration::from_secs(3700)));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn a_variable_keeps_its_bytes() {
        let word = OsString::from_vec(b"NAME=a=b\xff".to_vec());
        let (name, value) = variable(&word).expect("a variable").expect("with a value");
        assert_eq!((name.as_bytes(), value.as_bytes()), (&b"NAME"[..], &b"a=b\xff"[..]));
        assert_eq!(variable(OsStr::new("SORTIE_NO_SUCH_VARIABLE")), Ok(None));
        assert!(variable(OsStr::new("=x")).is_err());
    }
}
