//! This program, as people call it: a user's own program has another name than `sortie`.

use std::path::Path;

/// What the command is called where nobody says otherwise.
const NAME: &str = "sortie";

/// The word that people type to run us: the name of the file that we were started by.
pub(crate) fn name() -> String {
    name_in(std::env::args_os().next().as_deref().map(Path::new))
}

fn name_in(path: Option<&Path>) -> String {
    let name = path.and_then(Path::file_name).and_then(|name| name.to_str());
    let plain = |name: &&str| !name.chars().any(|letter| letter.is_control() || letter == ' ');
    name.filter(plain).unwrap_or(NAME).to_owned()
}

/// A sentence of ours or of a node, with its commands as people type them here: written they begin
/// with `sortie`, in backticks, whatever the program is called.
pub(crate) fn with_own_name(sentence: &str) -> String {
    sentence.replace("`sortie ", &format!("`{} ", name()))
}

/// The same for a command by itself.
pub(crate) fn own_command(command: &str) -> String {
    match command.strip_prefix("sortie ") {
        Some(words) => format!("{} {words}", name()),
        None => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_called_by_the_name_of_its_file() {
        for (path, name) in [
            (Some("/usr/bin/sortie"), "sortie"),
            (Some("target/debug/fleet"), "fleet"),
            (Some("fleet"), "fleet"),
            (Some("/x/an odd\u{1b} one"), "sortie"),
            (Some(""), "sortie"),
            (None, "sortie"),
        ] {
            assert_eq!(name_in(path.map(Path::new)), name, "{path:?}");
        }
    }

    #[test]
    fn commands_are_shown_as_people_type_them_here() {
        let name = name();
        let sentence =
            with_own_name("`sortie get` lists jobs; a sortie has `sortie node get`, too");
        let expected = format!("`{name} get` lists jobs; a sortie has `{name} node get`, too");
        assert_eq!(sentence, expected);
        assert_eq!(own_command("sortie stop 3"), format!("{name} stop 3"));
        assert_eq!(own_command("other"), "other");
    }
}
