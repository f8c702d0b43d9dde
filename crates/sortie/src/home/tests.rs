use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use sortie_actors::Keeper;
use sortie_link::NodeKey;
use sortie_model::NodeId;
use sortie_wire::link_proto::Member;

use super::*;

fn open(paths: &HomePaths) -> Result<Home, HomeError> {
    Home::create_or_open(paths.clone(), None, "alice")
}

fn new_home() -> (tempfile::TempDir, HomePaths) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let paths = HomePaths {
        config: directory.path().join("config"),
        state: directory.path().join("state"),
    };
    (directory, paths)
}

fn named(name: &str) -> NodeName {
    name.parse().expect("a node name")
}

/// Every file and directory below, with its permissions.
fn modes(directory: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let metadata = std::fs::symlink_metadata(&path).expect("it is there");
        found.push((path.clone(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            modes(&path, found);
        }
    }
}

#[test]
fn nothing_in_a_home_is_open_to_others() {
    let (directory, paths) = new_home();
    let mut home = open(&paths).expect("a new home");
    let settings = NodeSettings { port: Some(4433), ..NodeSettings::default() };
    home.change_settings(settings).expect("settings are written");
    home.announce("127.0.0.1:4433".parse().expect("an address")).expect("it is announced");
    home.save_roster(&roster(&["a"])).expect("the roster is written");

    let mut found = Vec::new();
    modes(directory.path(), &mut found);
    assert!(found.len() >= 10, "{found:?}");
    for (path, mode) in found {
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

#[test]
fn a_home_keeps_its_identity_and_settings() {
    let (_directory, paths) = new_home();
    let mut home = Home::create_or_open(paths.clone(), Some(named("first")), "alice").expect("new");
    let id = home.identities().node_id();
    let settings = NodeSettings {
        port: Some(4433),
        advertise: Some("host.example:4433".to_owned()),
        labels: [("role".to_owned(), "db".to_owned())].into(),
    };
    home.change_settings(settings.clone()).expect("settings are written");
    home.save_roster(&roster(&["first"])).expect("the roster is written");
    drop(home);

    let home = open(&paths).expect("it opens again");
    assert_eq!(home.identities().node_id(), id);
    assert_eq!(home.identities().name().as_str(), "first");
    assert!(home.identities().authority().is_some());
    assert_eq!(*home.settings(), settings);
    assert_eq!(home.roster().expect("it reads"), Some(roster(&["first"])));
    let (user, node) = paths.client_side().expect("clients find their part");
    assert_eq!(node, id);
    let key = NodeKey::from_pem(&user.to_pem()).expect("its key");
    assert_eq!(key.to_pem(), home.identities().user_key().expect("a key").to_pem());
}

#[test]
fn one_process_holds_a_home_and_the_next_is_told_which() {
    let (_directory, paths) = new_home();
    let home = open(&paths).expect("a new home");
    let error = open(&paths).expect_err("it is held");
    let process = std::process::id();
    assert!(matches!(&error, HomeError::InUse { process: Some(holder), .. } if *holder == process));
    assert!(
        error
            .to_string()
            .starts_with(&format!("another node runs with this home (process {process}): "))
    );
    drop(home);
    let mut home = open(&paths).expect("it is free again");
    home.withdraw();
    let next = open(&paths).expect("it was given free");
    next.take_address_back().expect("nothing is there");
    drop(home);
    assert!(matches!(open(&paths), Err(HomeError::InUse { .. })), "the next one holds it");
}

#[test]
fn an_address_is_there_only_while_the_node_is_ready() {
    let (_directory, paths) = new_home();
    assert_eq!(paths.announced().expect("it reads"), None);
    let mut home = open(&paths).expect("a new home");
    home.announce("0.0.0.0:4433".parse().expect("an address")).expect("it is announced");
    assert_eq!(paths.announced().expect("it reads").as_deref(), Some("127.0.0.1:4433"));
    home.announce("[::]:1".parse().expect("an address")).expect("it is announced");
    assert_eq!(paths.announced().expect("it reads").as_deref(), Some("[::1]:1"));
    drop(home);
    assert_eq!(paths.announced().expect("it reads"), None);
}

#[test]
fn an_address_left_by_a_crash_is_taken_back_before_anything_else() {
    let (_directory, paths) = new_home();
    drop(open(&paths).expect("a new home"));
    std::fs::write(paths.state.join("node.addr"), "127.0.0.1:9\n").expect("a leftover");
    let _home = open(&paths).expect("it opens");
    assert_eq!(paths.announced().expect("it reads"), None);
}

#[test]
fn a_crash_during_a_change_of_identity_leaves_the_old_or_the_new_one() {
    let (_directory, paths) = new_home();
    let old = open(&paths).expect("a new home").identities().node_id();
    let identity = paths.config.join("identity");
    let (new_dir, old_dir) = (identity.with_extension("new"), identity.with_extension("old"));

    // Before the old one was moved away: half of the new one is dropped.
    std::fs::DirBuilder::new().mode(0o700).create(&new_dir).expect("a directory");
    std::fs::write(new_dir.join("node.pem"), "half").expect("a file");
    assert_eq!(open(&paths).expect("it opens").identities().node_id(), old);
    assert!(!new_dir.exists());

    // After it was moved away, the new one was whole.
    let elsewhere = paths.config.join("elsewhere");
    let other = Identities::create(&elsewhere, named("other"), "bob").expect("another one");
    std::fs::rename(&identity, &old_dir).expect("the old one is moved away");
    std::fs::rename(&elsewhere, &new_dir).expect("the new one waits");
    let home = open(&paths).expect("it opens");
    assert_eq!(home.identities().node_id(), other.node_id());
    assert!(!new_dir.exists() && !old_dir.exists());
}

#[test]
fn a_crash_during_the_first_creation_leaves_nothing_in_the_way() {
    let (_directory, paths) = new_home();
    std::fs::create_dir_all(paths.config.join("identity.new")).expect("a directory");
    std::fs::set_permissions(&paths.config, PermissionsExt::from_mode(0o700)).expect("private");
    std::fs::write(paths.config.join("identity.new/node.pem"), "half").expect("a file");
    open(&paths).expect("a new home all the same");
}

#[test]
fn a_damaged_file_is_named() {
    let (_directory, paths) = new_home();
    drop(open(&paths).expect("a new home"));
    let path = paths.config.join("identity/node.pem");
    std::fs::write(&path, "-----BEGIN CERT").expect("damage");
    let error = open(&paths).expect_err("it is damaged").to_string();
    assert!(error.starts_with(&format!("{} is damaged: ", path.display())), "{error}");
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let (_directory, paths) = new_home();
    drop(open(&paths).expect("a new home"));
    let path = paths.config.join("identity/user.pem");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("opened up");
    assert!(matches!(paths.client_side(), Err(HomeError::Exposed { what: "read", .. })));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("closed");
    std::fs::set_permissions(&paths.config, PermissionsExt::from_mode(0o777)).expect("opened up");
    assert!(matches!(open(&paths), Err(HomeError::Exposed { what: "change", .. })));
}

#[test]
fn a_folder_of_another_user_is_no_home_also_for_root() {
    let (directory, mut paths) = new_home();
    paths.config = PathBuf::from("/");
    if rustix::process::geteuid().is_root() {
        paths.config = directory.path().join("theirs");
        std::fs::create_dir(&paths.config).expect("a folder");
        std::os::unix::fs::chown(&paths.config, Some(54_321), None).expect("root may");
    }
    let error = open(&paths).expect_err("it is not ours");
    assert!(matches!(error, HomeError::Foreign { .. }) && error.is_mistake(), "{error}");
    assert!(!paths.state.exists());
}

#[test]
fn a_node_that_is_alone_can_be_renamed_and_keeps_its_key() {
    let (_directory, paths) = new_home();
    let id = open(&paths).expect("a new home").identities().node_id();
    let rename = |name| Home::create_or_open(paths.clone(), Some(named(name)), "alice");
    let home = rename("b").expect("it is alone");
    assert_eq!((home.identities().name().as_str(), home.identities().node_id()), ("b", id));
    home.save_roster(&roster(&["b", "c"])).expect("the roster is written");
    drop(home);
    assert!(matches!(rename("d"), Err(HomeError::OtherName { .. })));
    assert_eq!(rename("b").expect("its own name").identities().name().as_str(), "b");
}

#[test]
fn a_joined_home_holds_no_authority() {
    let (_directory, paths) = new_home();
    let mut home = open(&paths).expect("a new home");
    let authority = sortie_link::CertificateAuthority::create().expect("another CA");
    let key = home.identities().node_key().expect("the key reads");
    let user_key = home.identities().user_key().expect("the key reads");
    let node = authority.identify_node(&key, &named("joined")).expect("a certificate");
    let user = authority.identify_user(&user_key, "alice").expect("a certificate");
    let id = home.identities().node_id();
    let joined = Identities::new(None, node, user).expect("the right roles");
    home.replace_identities(joined).expect("they are written");
    drop(home);
    let home = open(&paths).expect("it opens");
    assert!(home.identities().authority().is_none());
    assert_eq!(home.identities().node_id(), id);
    assert_eq!(home.identities().node().fingerprint(), authority.fingerprint());
}

#[test]
fn a_running_node_keeps_its_port_and_labels_and_only_an_address_of_its_own_choice() {
    let (_directory, paths) = new_home();
    let keeper = HomeKeeper::new(open(&paths).expect("a new home"));
    keeper.announce("127.0.0.1:4433".parse().expect("an address")).expect("it is announced");
    let labels = vec![("role".to_owned(), "db".to_owned())];
    let member = |address: &str| Member {
        node: NodeId::of_public_key(b"key"),
        name: named("a"),
        address: address.to_owned(),
        labels: labels.clone(),
    };
    let kept = |keeper: HomeKeeper| {
        drop(keeper);
        open(&paths).expect("it opens").settings().clone()
    };
    keeper.own(&member("127.0.0.1:4433")).expect("it is kept");
    let settings = kept(keeper);
    assert_eq!((settings.port, settings.advertise), (Some(4433), None));
    assert_eq!(settings.labels, labels.iter().cloned().collect());

    let keeper = HomeKeeper::new(open(&paths).expect("it opens"));
    keeper.own(&member("host.example:9")).expect("it is kept");
    assert_eq!(kept(keeper).advertise.as_deref(), Some("host.example:9"));
}

#[test]
fn a_mistake_in_groups_is_one_sentence_with_file_and_line() {
    let (_directory, paths) = new_home();
    let home = open(&paths).expect("a new home");
    let path = paths.config.join("groups.toml");
    let check = |text: &str, expected: &str| {
        std::fs::write(&path, text).expect("an edit");
        let error = home.groups().expect_err(text).to_string();
        assert_eq!(error, format!("{}:{expected}", path.display()));
        assert!(!error.contains('\n'));
    };
    check(
        "# web\nweb = 7\n",
        "2: group `web` is neither a node expression nor a list of them, in quotes",
    );
    check(
        "a = \"x\"\nb = [\"y\",\n 3]\n",
        "2: group `b` is neither a node expression nor a list of them, in quotes",
    );
    check(
        "\"a b\" = \"x\"\n",
        "1: `a b` is no name for a group: use letters, digits, `-`, `_` and `.`",
    );
    check(
        "a = \"x\"\nb = [\"@a\",\n \"@c\"]\n",
        "2: group `b` names the group `c`, which is not there",
    );
    check("a = \"x, !@a\"\n", "1: group `a` contains itself");
    check(
        "a = \"@b\"\n\nb = [\"x\", \"@end\", \"@d\"]\nd = \"@c\"\nc = \"@b\"\nend = \"y\"\n",
        "3: group `b` contains itself through `d`, `c`",
    );
    std::fs::write(&path, "a = \"x\"\n\nb = [\"node[\"]\n").expect("an edit");
    let error = home.groups().expect_err("a bad expression").to_string();
    assert!(error.starts_with(&format!("{}:3: group `b`: ", path.display())), "{error}");
    std::fs::write(&path, "a = \"x\"\nb = \n").expect("an edit");
    let error = home.groups().expect_err("no TOML").to_string();
    assert!(error.starts_with(&format!("{}:2: ", path.display())), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn groups_are_expressions_or_lists_of_them() {
    let (_directory, paths) = new_home();
    let home = open(&paths).expect("a new home");
    assert_eq!(home.groups().expect("no file").into_map().len(), 0);
    let text =
        "web = \"web[1-3]\"\ndb = [\"db1\", \"role=db\"]\nall = [\"@web & !@db\", \"@db\"]\n";
    std::fs::write(paths.groups_file(), text).expect("an edit");
    let groups = home.groups().expect("it reads");
    let groups = groups.into_map();
    assert_eq!(groups.get("web"), Some(&vec!["web[1-3]".to_owned()]));
    assert_eq!(groups.get("db").map(Vec::len), Some(2));
    assert_eq!(groups.get("cache"), None);
}

#[test]
fn an_unknown_setting_is_a_mistake_with_its_line() {
    let (_directory, paths) = new_home();
    drop(open(&paths).expect("a new home"));
    std::fs::write(paths.config.join("node.toml"), "port = 1\nprot = 2\n").expect("an edit");
    assert!(matches!(open(&paths), Err(HomeError::Mistake { line: 2, .. })));
}

#[test]
fn any_machine_name_becomes_a_node_name() {
    let check = |text: &str, name: Option<&str>| {
        assert_eq!(node_name(text).ok().as_ref().map(NodeName::as_str), name, "{text}");
    };
    check("web01.example.org", Some("web01"));
    check("-my box!", Some("mybox"));
    check("é", None);
    check("", None);
    check(&"x".repeat(80), Some(&"x".repeat(63)));
    assert!(!machine_name().as_str().is_empty());
}

fn roster(names: &[&str]) -> Roster {
    let member = |name: &&str| Member {
        node: NodeId::of_public_key(name.as_bytes()),
        name: named(name),
        address: "127.0.0.1:1".to_owned(),
        labels: Vec::new(),
    };
    let authority = NodeId::of_public_key(b"ca");
    Roster { version: 3, authority, members: names.iter().map(member).collect() }
}

#[test]
fn a_trial_write_leaves_nothing_and_says_where_it_failed() {
    let (directory, paths) = new_home();
    assert!(paths.try_write().is_ok(), "a home that is not there yet is no fault");
    drop(open(&paths).expect("a new home"));
    let names = |folder: &Path| {
        let mut found = Vec::new();
        modes(folder, &mut found);
        found
    };
    let before = names(directory.path());
    assert!(paths.try_write().is_ok());
    assert_eq!(names(directory.path()), before);
    // Also root cannot make a file there.
    let nowhere = HomePaths::within("/proc/self/fdinfo");
    let error = nowhere.try_write().expect_err("no file can be made there");
    assert!(error.to_string().contains("/proc/self/fdinfo"), "{error}");
}
