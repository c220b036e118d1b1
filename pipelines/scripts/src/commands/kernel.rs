//! `linux-run-hooks`: what other packages want to be asked when a kernel comes or goes, in `/etc/kernel` and
//! `/usr/share/kernel`. Those that come after unpacking make what the machine boots, with programs that are not
//! interpreted; few come before it.

use super::process::run_parts;
use crate::shell::Shell;
use crate::stop::Run;

/// `linux-run-hooks image SCRIPT RELEASE IMAGE -- ARGUMENT...`, or `headers SCRIPT RELEASE -- ARGUMENT...`.
pub(crate) fn linux_run_hooks(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let (kind, arguments) = match words {
        [_, kind, script, rest @ ..] if kind == b"image" => {
            (script.clone(), rest.split_at_checked(2))
        }
        [_, kind, script, rest @ ..] if kind == b"headers" => {
            ([b"header_", &script[..]].concat(), rest.split_at_checked(1))
        }
        _ => return shell.usage(b"linux-run-hooks", "the call is not interpreted"),
    };
    let Some((about, [dashes, parameters @ ..])) = arguments else {
        return shell.usage(b"linux-run-hooks", "the call is not interpreted");
    };
    let known = ["preinst", "postinst", "prerm", "postrm"];
    if dashes != b"--" || !known.iter().any(|known| kind.ends_with(known.as_bytes())) {
        return shell.usage(b"linux-run-hooks", "the call is not interpreted");
    }
    let mut filled = Vec::new();
    for place in [&b"/etc/kernel/"[..], b"/usr/share/kernel/"] {
        let folder = [place, &kind, b".d"].concat();
        if shell.files.is_directory(&folder)?
            && !shell.files.list(&folder)?.unwrap_or_default().is_empty()
        {
            filled.push(folder);
        }
    }
    let folder = match filled.as_slice() {
        [] => return Ok(0),
        [folder] => folder.clone(),
        // Which of them come first, and which cover others, depends on the version of run-parts.
        _ => {
            return shell.usage(
                b"linux-run-hooks",
                "hooks in two folders are not interpreted",
            );
        }
    };
    let mut call = vec![
        b"run-parts".to_vec(),
        b"--report".to_vec(),
        b"--exit-on-error".to_vec(),
    ];
    call.extend(
        about
            .iter()
            .map(|argument| [b"--arg=", &argument[..]].concat()),
    );
    call.push(folder);
    let parameters = parameters.join(&b' ');
    shell.subshell(|shell| {
        shell
            .environment
            .variables
            .set_exported(b"DEB_MAINT_PARAMS", &parameters);
        run_parts(shell, &call)
    })
}
