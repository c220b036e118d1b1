//! `setcap`: the extended attribute `security.capability` (capabilities(7), cap_from_text(3)).

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use crate::shell::Shell;
use crate::stop::Run;

const NAME: &[u8] = b"security.capability";

/// Capabilities in the order of their numbers (linux/capability.h).
const NAMES: &[&str] = &[
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Permitted and inheritable capabilities as bits, and whether they are effective.
#[derive(Default)]
struct Sets {
    permitted: u64,
    inheritable: u64,
    effective: u64,
}

/// Clauses such as `cap_net_raw,cap_net_admin+ep`, parted by blanks.
fn parse(text: &str) -> Option<Sets> {
    let mut out = Sets::default();
    for clause in text.split_ascii_whitespace() {
        let at = clause.find(['+', '='])?;
        let (names, rest) = clause.split_at(at);
        let flags = rest.get(1..)?;
        if flags.is_empty() || !flags.chars().all(|flag| "epi".contains(flag)) {
            return None;
        }
        let mut bits = 0_u64;
        for name in names.split(',') {
            let name = name.to_ascii_lowercase();
            let number = NAMES
                .iter()
                .position(|known| name.strip_prefix("cap_") == Some(*known))?;
            bits |= 1_u64.checked_shl(u32::try_from(number).ok()?)?;
        }
        for flag in flags.chars() {
            match flag {
                'p' => out.permitted |= bits,
                'i' => out.inheritable |= bits,
                _ => out.effective |= bits,
            }
        }
    }
    Some(out)
}

/// `struct vfs_cap_data`, revision 2.
fn encode(sets: &Sets) -> Option<Vec<u8>> {
    let all = sets.permitted | sets.inheritable;
    // A file has one bit for all of them.
    if sets.effective != 0 && sets.effective != all {
        return None;
    }
    let magic = 0x0200_0000_u32 | u32::from(sets.effective != 0);
    let low = |bits: u64| u32::try_from(bits & 0xffff_ffff).ok();
    let mut out = Vec::new();
    for field in [
        magic,
        low(sets.permitted)?,
        low(sets.inheritable)?,
        low(sets.permitted >> 32)?,
        low(sets.inheritable >> 32)?,
    ] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    Some(out)
}

pub(crate) fn setcap(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest: Vec<&[u8]> = words.iter().skip(1).map(Vec::as_slice).collect();
    if rest.first() == Some(&&b"-q"[..]) {
        rest.remove(0);
    }
    let (value, path) = match rest.as_slice() {
        [b"-r", path] => (None, *path),
        [text, path] if !text.starts_with(b"-") => {
            let value = std::str::from_utf8(text)
                .ok()
                .and_then(parse)
                .and_then(|sets| encode(&sets));
            match value {
                Some(value) => (Some(value), *path),
                None => return shell.usage(b"setcap", "the capabilities are not interpreted"),
            }
        }
        _ => return shell.usage(b"setcap", "the call is not interpreted"),
    };
    let Some(found) = shell.files.look(path, Follow::No)? else {
        shell.complain(
            b"setcap",
            "Failed to set capabilities: No such file or directory",
        )?;
        return Ok(1);
    };
    if !matches!(found.node, DraftNode::File(_)) {
        shell.complain(b"setcap", "Failed to set capabilities: not a regular file")?;
        return Ok(1);
    }
    let removes_nothing = value.is_none() && !found.attributes.xattrs.contains_key(NAME);
    shell.files.change(&found.path, |attributes| {
        match value {
            Some(value) => attributes.xattrs.insert(NAME.to_vec(), value),
            None => attributes.xattrs.remove(NAME),
        };
    })?;
    Ok(i32::from(removes_nothing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_is_as_setcap_writes_it() {
        let sets = parse("cap_net_raw+ep").unwrap();
        let wanted = [
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(encode(&sets).unwrap(), wanted);
        let sets = parse("CAP_BPF,cap_perfmon=p").unwrap();
        assert_eq!(
            encode(&sets).unwrap().get(12..16),
            Some(&[0xc0, 0, 0, 0][..])
        );
        for text in [
            "cap_net_raw",
            "cap_nothing+ep",
            "cap_net_raw-ep",
            "all=ep",
            "+ep",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
