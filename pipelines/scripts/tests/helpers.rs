//! Programs of packages that are interpreted without being there: what they answer, and what they refuse. Real guests'
//! own programs are the oracle by hand (`tests/chroot.rs`).

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use common::{Guests, call, path, world};
use dormouse_filesystem::Follow;
use dormouse_scripts::{Done, Limits, Outcome, PackageView, run};

/// A guest that has programs by these names.
fn guest(programs: &[&str]) -> Guests {
    let mut guests = Guests::plain();
    for program in programs {
        guests
            .tree
            .file(&format!("/usr/bin/{program}"), b"#!/usr/bin/perl\n")
            .with(|metadata| metadata.mode = 0o755);
    }
    guests
}

fn interpret(guests: &Guests, script: &str) -> Result<(Done, dormouse_overlay::Draft), String> {
    let mut draft = guests.draft();
    let script = format!("#!/bin/sh\nset -e\n{script}\n");
    let mut world = world();
    world.packages.insert(
        "mariadb-server-core".into(),
        vec![PackageView {
            version: Some("1:10.11.6-0+deb12u1".into()),
            ..PackageView::default()
        }],
    );
    let mut call = call(script.as_bytes());
    call.package = "postgresql-15";
    match run(&call, &mut draft, &world, &Limits::default()) {
        Outcome::Done(done) => Ok((done, draft)),
        Outcome::Deferred(deferral) => Err(deferral.to_string()),
    }
}

fn said(guests: &Guests, script: &str) -> String {
    interpret(guests, script).unwrap().0.log.join("\n")
}

#[test]
fn another_user_is_told_of_files_by_their_modes_and_changes_none() {
    let mut guests = guest(&["su"]);
    guests.tree.file("/srv/mine", b"x").with(|metadata| {
        (metadata.mode, metadata.uid, metadata.gid) = (0o640, 1, 0);
    });
    guests.tree.file("/srv/secret", b"x").with(|metadata| {
        metadata.mode = 0o600;
    });
    let ask = |test: &str| {
        said(
            &guests,
            &format!("if su -s /bin/sh daemon -c '{test}'; then echo yes; else echo no; fi"),
        )
    };
    for (test, wanted) in [
        ("test -O /srv/mine", "yes"),
        ("test -G /srv/mine", "no"),
        ("test -r /srv/mine && test -w /srv/mine", "yes"),
        ("test -r /srv/secret", "no"),
        ("[ -e /srv/secret ]", "yes"),
        ("test -O /srv/secret", "no"),
    ] {
        assert_eq!(ask(test), wanted, "{test}");
    }
    assert_eq!(said(&guests, "su daemon -c true || echo no"), "no");
    for refused in [
        "su -s /bin/sh daemon -c 'echo > /tmp/x'",
        "su -s /bin/sh daemon -c 'rm /srv/mine'",
        "su -s /bin/sh daemon -c 'read x < /srv/secret'",
        "su - daemon",
        "su root -c true",
    ] {
        let outcome = interpret(&guests, refused);
        assert!(outcome.is_err(), "{refused}");
    }
    // Afterwards root is root again.
    said(
        &guests,
        "su -s /bin/sh daemon -c true; echo > /tmp/x; test -r /srv/secret",
    );
}

#[test]
fn apache_is_asked_for_what_is_enabled() {
    let mut guests = guest(&["a2query"]);
    for module in ["php8.2", "mpm_prefork"] {
        guests
            .tree
            .file(&format!("/etc/apache2/mods-enabled/{module}.load"), b"");
    }
    guests
        .tree
        .file("/var/lib/apache2/module/enabled_by_maint/php8.2", b"")
        .file("/var/lib/apache2/module/disabled_by_admin/ssl", b"")
        .file("/var/lib/apache2/module/disabled_by_maint/cgi", b"");
    assert_eq!(said(&guests, "a2query -M"), "prefork");
    assert_eq!(
        said(&guests, "a2query -m php8.2"),
        "php8.2 (enabled by maintainer script)"
    );
    for (module, status) in [("ssl", 32), ("cgi", 33), ("none", 1), ("php8.2", 0)] {
        assert_eq!(
            said(&guests, &format!("a2query -q -m {module} || echo $?")),
            if status == 0 {
                String::new()
            } else {
                status.to_string()
            }
        );
    }
    guests
        .tree
        .file("/etc/apache2/mods-enabled/mpm_event.load", b"");
    assert!(said(&guests, "a2query -M || :").contains("more than one"));
}

#[test]
fn clusters_are_listed_by_their_settings() {
    let mut guests = guest(&["pg_lsclusters", "pg_conftool"]);
    for (version, name, port) in [("9.6", "old", "5433"), ("15", "main", "5432")] {
        let settings = format!(
            "# settings\nport = {port}   # taken\ndata_directory = '/var/lib/postgresql/{version}/{name}'\n"
        );
        guests.tree.file(
            &format!("/etc/postgresql/{version}/{name}/postgresql.conf"),
            settings.as_bytes(),
        );
        guests
            .tree
            .directory(&format!("/var/lib/postgresql/{version}/{name}"))
            .with(|metadata| metadata.uid = 1);
    }
    guests
        .tree
        .file("/usr/lib/postgresql/15/bin/postgres", b"\x7fELF");
    assert_eq!(
        said(&guests, "pg_lsclusters -h"),
        "9.6 old  5433 down,binaries_missing daemon /var/lib/postgresql/9.6/old /var/log/postgresql/postgresql-9.6-old.log\n\
         15  main 5432 down                  daemon /var/lib/postgresql/15/main /var/log/postgresql/postgresql-15-main.log"
    );
    assert_eq!(
        said(&guests, "pg_conftool -s 15 main show data_directory"),
        "/var/lib/postgresql/15/main"
    );
    guests
        .tree
        .file("/etc/postgresql/15/main/conf.d/more.conf", b"port = 1\n");
    assert!(interpret(&guests, "pg_lsclusters -h").is_err());
}

#[test]
fn option_files_are_printed_by_group() {
    let mut guests = guest(&["my_print_defaults"]);
    guests
        .tree
        .file(
            "/etc/mysql/my.cnf",
            b"[client]\nport=1\n[mysqld]\nuser = mysql # its user\nskip-name-resolve\n!includedir /etc/mysql/conf.d/\n",
        )
        .file(
            "/etc/mysql/conf.d/b.cnf",
            b"[mariadb-10.11]\ndatadir=\"/srv/my sql\"\n[mariadb-10.5]\nno=1\n",
        )
        .file("/etc/mysql/conf.d/a.txt", b"[mysqld]\nno=1\n");
    assert_eq!(
        said(&guests, "my_print_defaults --mysqld"),
        "--user=mysql\n--skip-name-resolve\n--datadir=/srv/my sql"
    );
    assert_eq!(said(&guests, "my_print_defaults client"), "--port=1");
    guests
        .tree
        .file("/etc/mysql/conf.d/c.cnf", b"!include /etc/mysql/my.cnf\n");
    assert!(interpret(&guests, "my_print_defaults client").is_err());
}

#[test]
fn capabilities_are_an_attribute() {
    let guests = guest(&["setcap", "ping"]);
    let (_, draft) = interpret(&guests, "setcap cap_net_raw+ep /usr/bin/ping").unwrap();
    let found = draft
        .get(&path("/usr/bin/ping"), Follow::No)
        .unwrap()
        .unwrap();
    let value = found
        .attributes
        .xattrs
        .get(&b"security.capability"[..])
        .unwrap();
    assert_eq!(
        value,
        &[
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        ]
    );
    assert!(interpret(&guests, "setcap all+ep /usr/bin/ping").is_err());
}

#[test]
fn compiled_caches_are_named_and_left() {
    let guests = guest(&["py3compile", "mandb", "fc-cache", "python3", "python3.11"]);
    let (done, draft) = interpret(
        &guests,
        "py3compile -p example\npython3.11 -E -S /usr/lib/python3.11/py_compile.py x.py\nmandb -pq\nfc-cache -s",
    )
    .unwrap();
    assert_eq!(done.caches.len(), 3, "{:?}", done.caches);
    assert!(draft.differences().unwrap().is_empty());
    assert!(interpret(&guests, "python3 -c 'print(1)'").is_err());
}

#[test]
fn profiles_of_pam_that_did_not_change_are_left() {
    let mut guests = guest(&["pam-auth-update"]);
    guests
        .tree
        .file(
            "/usr/share/pam-configs/unix",
            b"Name: Unix\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_unix.so try_first_pass\nAuth-Initial:\n\t[success=end default=ignore]\tpam_unix.so\nSession-Type: Additional\nSession:\n\trequired\tpam_unix.so\n",
        )
        .file("/var/lib/pam/seen", b"unix\n")
        .file(
            "/var/lib/pam/auth",
            b"Module: unix\n[success=end default=ignore]\tpam_unix.so\n",
        );
    for kind in ["session", "session-noninteractive"] {
        guests.tree.file(
            &format!("/var/lib/pam/{kind}"),
            b"Module: null\n[default=1]\t\t\tpam_permit.so\nModule: unix\nrequired\tpam_unix.so\n",
        );
    }
    for kind in ["account", "password"] {
        guests.tree.file(
            &format!("/var/lib/pam/{kind}"),
            b"Module: null\n[default=1]\t\t\tpam_permit.so\n",
        );
    }
    let (_, draft) = interpret(&guests, "pam-auth-update --package").unwrap();
    assert!(draft.differences().unwrap().is_empty());
    guests.tree.file(
        "/usr/share/pam-configs/more",
        b"Name: More\nDefault: no\nPriority: 1\n",
    );
    assert!(interpret(&guests, "pam-auth-update --package").is_err());
}

#[test]
fn users_leave_groups() {
    let mut guests = guest(&["deluser", "aa-enabled", "udevadm", "sysctl"]);
    guests
        .tree
        .file(
            "/etc/group",
            b"root:x:0:\ndaemon:x:1:\nadm:x:4:syslog,daemon\n",
        )
        .file("/etc/gshadow", b"adm:*::syslog,daemon\n");
    let (_, draft) = interpret(&guests, "deluser -q daemon adm").unwrap();
    for (file, wanted) in [
        ("/etc/group", "root:x:0:\ndaemon:x:1:\nadm:x:4:syslog\n"),
        ("/etc/gshadow", "adm:*::syslog\n"),
    ] {
        let text = draft.read(&path(file), 999).unwrap().unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), wanted);
    }
    assert_eq!(
        said(&guests, "deluser -q daemon root 2>/dev/null || echo $?"),
        "6"
    );
    assert!(interpret(&guests, "deluser --system daemon").is_err());
    let (done, _) = interpret(
        &guests,
        "if aa-enabled --quiet; then false; fi; udevadm trigger; sysctl -p /etc/sysctl.d/x.conf",
    )
    .unwrap();
    assert_eq!(done.service_actions.len(), 2);
    assert!(interpret(&guests, "udevadm info /dev/sda").is_err());
    assert!(interpret(&guests, "sysctl -n kernel.hostname").is_err());
}

#[test]
fn aliases_are_plain_commands() {
    let guests = guest(&[]);
    let script = "alias strip=\"sed -e 's/^ *//;s/|//'\"\nprintf '  |a\\n' | strip -e 's/a/b/'";
    assert_eq!(said(&guests, script), "b");
    for refused in [
        "alias x='a; b'",
        "alias x='a | b'",
        "alias x='a '",
        "alias x=\"a '\"",
        "alias",
    ] {
        assert!(interpret(&guests, refused).is_err(), "{refused}");
    }
}

#[test]
fn settings_of_ssh_are_found_by_its_own_program() {
    let mut guests = guest(&["perl", "uname", "helpztags"]);
    guests.tree.file(
        "/etc/ssh/sshd_config",
        b"#Port 1\n  Port   22  \nport=23\nPortable x\nHostKey /a  b\n",
    );
    let ask = |option: &str| {
        said(
            &guests,
            &format!(
                "perl -lne '\n\ts/[[:space:]]+/ /g; s/[[:space:]]+$//;\n\tprint if s/^[[:space:]]*{option}[[:space:]=]+//i' /etc/ssh/sshd_config"
            ),
        )
    };
    assert_eq!(ask("Port"), "22\n23");
    assert_eq!(ask("HostKey"), "/a b");
    assert_eq!(ask("UsePAM"), "");
    assert!(interpret(&guests, "perl -lne 'print' /etc/ssh/sshd_config").is_err());
    assert!(interpret(&guests, "uname -r").is_err());
    guests.tree.file("/boot/vmlinuz-6.1.0-1-amd64", b"");
    assert_eq!(said(&guests, "uname -r"), "6.1.0-1-amd64");
    said(&guests, "helpztags /usr/share/vim/addons/doc");
}

#[test]
fn apache_is_switched_as_its_own_helpers_do() {
    let mut guests = guest(&[
        "a2enmod",
        "a2dismod",
        "a2enconf",
        "a2disconf",
        "find",
        "readlink",
        "sort",
    ]);
    for (module, text) in [
        ("rewrite", ""),
        (
            "ssl",
            "# Depends: setenvif socache_shmcb\nLoadModule ssl_module x\n",
        ),
        ("setenvif", ""),
        ("socache_shmcb", ""),
        ("mpm_event", "# Conflicts: mpm_prefork\n"),
        ("mpm_prefork", "# Conflicts: mpm_event\n"),
        ("cgi", ""),
        ("cgid", ""),
    ] {
        let path = format!("/etc/apache2/mods-available/{module}.load");
        guests.tree.file(&path, text.as_bytes());
    }
    guests
        .tree
        .file("/etc/apache2/mods-available/ssl.conf", b"")
        .file(
            "/etc/apache2/conf-available/gitweb.conf",
            b"# Depends: rewrite\n",
        )
        .file("/etc/apache2/conf-available/plain.conf", b"")
        .symlink(
            "/etc/apache2/mods-enabled/mpm_event.load",
            "../mods-available/mpm_event.load",
        )
        .file("/var/lib/apache2/module/disabled_by_admin/ssl", b"")
        .directory("/etc/apache2/conf-enabled");
    let files = "find /etc/apache2/mods-enabled /etc/apache2/conf-enabled /var/lib/apache2 '!' -type d | sort";
    let after = |calls: &str| said(&guests, &format!("{{ {calls}; }} >/dev/null 2>&1; {files}"));
    // What a2enmod of Debian 12 leaves after the same calls.
    assert_eq!(
        after("a2enmod -m -q ssl"),
        "/etc/apache2/mods-enabled/mpm_event.load\n/etc/apache2/mods-enabled/setenvif.load\n\
         /etc/apache2/mods-enabled/socache_shmcb.load\n/etc/apache2/mods-enabled/ssl.conf\n\
         /etc/apache2/mods-enabled/ssl.load\n/var/lib/apache2/module/enabled_by_maint/setenvif\n\
         /var/lib/apache2/module/enabled_by_maint/socache_shmcb\n/var/lib/apache2/module/enabled_by_maint/ssl"
    );
    assert_eq!(
        said(
            &guests,
            "a2enmod -q ssl >/dev/null; readlink /etc/apache2/mods-enabled/ssl.conf"
        ),
        "../mods-available/ssl.conf"
    );
    assert_eq!(
        said(&guests, "a2enmod -q cgi; ls /etc/apache2/mods-enabled"),
        "Your MPM seems to be threaded. Selecting cgid instead of cgi.\nEnabling module cgid.\ncgid.load\nmpm_event.load"
    );
    for (call, status) in [
        ("a2enmod -q mpm_prefork", 1),
        ("a2enmod nothing", 1),
        ("a2enconf -q gitweb", 1),
        ("a2enconf -q plain", 0),
        (
            "a2enmod -q rewrite && a2enconf -q gitweb.conf && a2disconf -q gitweb",
            0,
        ),
        ("a2dismod -q rewrite", 0),
        ("a2enmod -q ssl && a2dismod -q setenvif", 1),
        (
            "a2enmod -q ssl && a2dismod -q -f setenvif && a2dismod -f -q mpm_event",
            0,
        ),
    ] {
        let wanted = status.to_string();
        let last = said(
            &guests,
            &format!("status=0; {{ {call}; }} >/dev/null 2>&1 || status=$?; echo $status"),
        );
        assert_eq!(last, wanted, "{call}");
    }
    for refused in [
        "a2enmod",
        "a2enmod '*'",
        "a2enmod cache_disk",
        "a2dismod setenvif </dev/null",
    ] {
        let outcome = interpret(&guests, refused);
        let is_error = outcome.is_err();
        assert!(is_error || refused.starts_with("a2dismod"), "{refused}");
    }
}

#[test]
fn a_machine_is_called_what_it_will_call_itself() {
    let mut guests = guest(&["hostname", "uname"]);
    let refused = |guests: &Guests, call: &str| interpret(guests, call).is_err();
    assert!(refused(&guests, "hostname"), "nothing says so");
    guests
        .tree
        .file("/etc/hostname", b"# ours\nweb-01.example\n");
    assert_eq!(
        said(&guests, "hostname; hostname -s; uname -n"),
        "web-01.example\nweb-01\nweb-01.example"
    );
    for call in ["hostname -f", "hostname other"] {
        assert!(refused(&guests, call), "{call}");
    }
}

#[test]
fn settings_of_apache_are_asked_for_nothing_but_a_reload_that_nobody_needs() {
    let guests = guest(&["apache2ctl"]);
    let (done, _) = interpret(
        &guests,
        "apache2_reload() { apache2ctl configtest; }; apache2_reload",
    )
    .unwrap();
    assert_eq!(done.service_actions, ["apache2ctl configtest"]);
    assert!(
        done.log.is_empty(),
        "nothing was looked at, so nothing is said"
    );
    for call in [
        "apache2ctl configtest",
        "apache2_reload() { apache2ctl -v; }; apache2_reload",
    ] {
        assert!(interpret(&guests, call).is_err(), "{call}");
    }
}

#[test]
fn of_several_kernels_the_newest_is_the_one_that_will_run() {
    let mut guests = guest(&["uname"]);
    assert!(interpret(&guests, "uname -r").is_err(), "there is none");
    for release in ["6.1.0-9-amd64", "6.1.0-10-amd64"] {
        guests.tree.file(&format!("/boot/vmlinuz-{release}"), b"");
    }
    assert_eq!(said(&guests, "uname -r"), "6.1.0-10-amd64");
}
