//! What a node remembers of how it was run: `node.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::home::groups::{form, text_of};
use crate::home::{DamageKind, HomeError, files};

/// How a node was run. Every field may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSettings {
    /// The UDP port it listens on. None: it never listened; any free port, which is then kept, so
    /// that others find the node again after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// Where the others of its cluster reach it, `host:port`. None: where they see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advertise: Option<String>,
    /// Its labels. Empty: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

impl NodeSettings {
    /// What the file says; the defaults where there is no file.
    pub(super) fn read(path: &Path) -> Result<Self, HomeError> {
        let Some(bytes) = files::read(path)? else { return Ok(Self::default()) };
        let text = text_of(path, bytes)?;
        toml::from_str(&text).map_err(|error| form(path, &text, &error))
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), HomeError> {
        let text = toml::to_string(self).map_err(|_| HomeError::damaged(path, DamageKind::Text))?;
        files::write(path, text.as_bytes())
    }
}
