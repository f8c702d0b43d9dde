//! The user that this process runs as.
#![expect(unsafe_code, reason = "the user database is reached through the C library")]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;

use bytes::Bytes;
use sortie_model::spec::OsBytes;

use crate::environment::NodeBasics;

/// The buffer for one entry of the user database; entries are far smaller.
const ENTRY_BYTES: usize = 16 << 10;

/// What the user database says of this process's user. A user without an entry has the home `/`,
/// the shell `/bin/sh` and its number as its name. `time_zone` is passed on.
pub(crate) fn basics(time_zone: Option<OsBytes>) -> NodeBasics {
    let user = rustix::process::geteuid().as_raw();
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut buffer = vec![0; ENTRY_BYTES];
    let mut found = ptr::null_mut();
    // SAFETY: the pointers are to memory of ours with the lengths given.
    let result = unsafe {
        libc::getpwuid_r(user, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found)
    };
    if result != 0 || found.is_null() {
        return NodeBasics {
            home: text(c"/"),
            user: OsBytes::try_from(user.to_string().as_str()).unwrap_or_else(|_| text(c"user")),
            shell: text(c"/bin/sh"),
            time_zone,
            node_home: None,
        };
    }
    // SAFETY: the call filled the entry with strings that lie in the buffer.
    let (home, name, shell) = unsafe {
        let entry = entry.assume_init();
        (copy(entry.pw_dir), copy(entry.pw_name), copy(entry.pw_shell))
    };
    let or = |value: OsBytes, other| if value.as_bytes().is_empty() { text(other) } else { value };
    let (home, shell) = (or(home, c"/"), or(shell, c"/bin/sh"));
    NodeBasics { home, user: name, shell, time_zone, node_home: None }
}

unsafe fn copy(string: *const libc::c_char) -> OsBytes {
    if string.is_null() {
        return text(c"");
    }
    // SAFETY: the C library ends its strings in NUL.
    text(unsafe { CStr::from_ptr(string) })
}

fn text(string: &CStr) -> OsBytes {
    let bytes = Bytes::copy_from_slice(string.to_bytes());
    match OsBytes::try_from(bytes) {
        Ok(text) => text,
        Err(_) => unreachable!("a C string has no NUL byte inside"),
    }
}
