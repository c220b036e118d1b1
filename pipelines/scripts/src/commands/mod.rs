//! The commands that scripts call, as functions over the draft.

pub(crate) mod accounts;
mod adduser;
mod alternatives;
mod apache;
mod arguments;
mod awk;
mod caches;
mod capability;
mod copy;
mod date;
pub(crate) mod debconf;
mod digest;
mod divert;
mod dpkg;
mod find;
mod getopt;
mod grep;
mod kernel;
mod ldconfig;
mod mailcap;
mod make;
mod mode;
mod mysql;
mod name;
mod openssl;
mod pam;
mod perl;
mod postgresql;
mod process;
mod python;
mod remove;
mod sed;
mod services;
mod sort;
mod stat;
mod statoverride;
mod text;
mod tmpfiles;
mod tr;
mod ufw;
mod user;
mod vendor;
mod vim;
mod xargs;

use crate::shell::Shell;
use crate::stop::Run;

/// Runs a command on its words, of which the first is its name, and returns its exit status.
pub(crate) type Command = fn(&mut Shell<'_>, &[Vec<u8>]) -> Run<i32>;

/// Every interpreted command, by name.
const COMMANDS: &[(&str, Command)] = &[
    ("[", process::builtin),
    ("a2disconf", apache::switch),
    ("a2dismod", apache::switch),
    ("a2dissite", apache::switch),
    ("a2enconf", apache::switch),
    ("a2enmod", apache::switch),
    ("a2ensite", apache::switch),
    ("a2query", apache::a2query),
    ("aa-enabled", services::no_apparmor),
    ("aa-status", services::no_apparmor),
    ("addgroup", adduser::adduser),
    ("adduser", adduser::adduser),
    ("apache2ctl", apache::apache2ctl),
    ("apparmor_parser", services::kernel_load),
    ("awk", awk::awk),
    ("basename", name::basename),
    ("bash", process::sh),
    ("cat", text::cat),
    ("chgrp", mode::chown),
    ("chmod", mode::chmod),
    ("chown", mode::chown),
    ("cmp", digest::compare),
    ("cp", copy::cp),
    ("cut", text::cut),
    ("dash", process::sh),
    ("date", date::date),
    ("deb-systemd-helper", services::deb_systemd_helper),
    ("deb-systemd-invoke", services::deb_systemd_invoke),
    ("delgroup", adduser::deluser),
    ("deluser", adduser::deluser),
    ("df", process::df),
    ("diff", digest::compare),
    ("dirname", name::dirname),
    ("dpkg", dpkg::dpkg),
    ("dpkg-divert", divert::dpkg_divert),
    ("dpkg-query", dpkg::dpkg_query),
    ("dpkg-statoverride", statoverride::dpkg_statoverride),
    ("dpkg-trigger", dpkg::dpkg_trigger),
    ("dpkg-vendor", vendor::dpkg_vendor),
    ("echo", process::echo),
    ("egrep", grep::grep),
    ("env", xargs::env),
    ("expr", stat::expr),
    ("false", process::fail),
    ("fc-cache", caches::fc_cache),
    ("fgrep", grep::grep),
    ("find", find::find),
    ("gawk", awk::awk),
    ("getent", accounts::getent),
    ("getopt", getopt::getopt),
    ("grep", grep::grep),
    ("groupadd", adduser::groupadd),
    ("head", text::head),
    ("helpztags", vim::helpztags),
    ("hostname", process::hostname),
    ("id", accounts::id),
    ("install", make::install),
    ("invoke-rc.d", services::invoke_rc_d),
    ("ionice", xargs::nice),
    ("ischroot", process::succeed),
    ("killall", process::no_process),
    ("ldconfig", ldconfig::ldconfig),
    ("linux-run-hooks", kernel::linux_run_hooks),
    ("ln", copy::ln),
    ("logger", process::succeed),
    ("ls", stat::ls),
    ("mandb", caches::mandb),
    ("mariadb-admin", process::no_server),
    ("mawk", awk::awk),
    ("md5sum", digest::sum),
    ("mkdir", make::mkdir),
    ("mktemp", make::mktemp),
    ("mv", copy::mv),
    ("my_print_defaults", mysql::my_print_defaults),
    ("mysqladmin", process::no_server),
    ("nice", xargs::nice),
    ("openssl", openssl::openssl),
    ("pam-auth-update", pam::pam_auth_update),
    ("perl", perl::perl),
    ("pg_checksystem", process::succeed),
    ("pg_conftool", postgresql::pg_conftool),
    ("pg_controldata", postgresql::pg_controldata),
    ("pg_lsclusters", postgresql::pg_lsclusters),
    ("pg_updatedicts", postgresql::pg_updatedicts),
    ("pgrep", process::no_process),
    ("pidof", process::no_process),
    ("pkill", process::no_process),
    ("printf", process::builtin),
    ("py3clean", python::py3clean),
    ("py3compile", python::compile),
    ("pyclean", python::py3clean),
    ("pycompile", python::compile),
    ("pypy3compile", python::compile),
    ("pypycompile", python::compile),
    ("python", python::python),
    ("python2", python::python),
    ("python3", python::python),
    ("readlink", name::readlink),
    ("realpath", name::realpath),
    ("rm", remove::rm),
    ("rmdir", remove::rmdir),
    ("run-parts", process::run_parts),
    ("run-upgrade-scripts", postgresql::run_upgrade_scripts),
    ("runuser", user::su),
    ("sed", sed::sed),
    ("seq", process::seq),
    ("service", services::invoke_rc_d),
    ("setcap", capability::setcap),
    ("setpriv", caches::setpriv),
    ("sh", process::sh),
    ("sha256sum", digest::sum),
    ("sleep", process::succeed),
    ("sort", sort::sort),
    ("ss", process::ss),
    ("stat", stat::stat),
    ("su", user::su),
    ("sync", process::succeed),
    ("sysctl", services::sysctl),
    ("systemctl", services::systemctl),
    ("systemd-machine-id-setup", services::machine_id),
    ("systemd-sysctl", services::kernel_load),
    ("systemd-sysusers", tmpfiles::systemd_sysusers),
    ("systemd-tmpfiles", tmpfiles::systemd_tmpfiles),
    ("tac", text::tac),
    ("tail", text::tail),
    ("tee", text::tee),
    ("tempfile", make::tempfile),
    ("test", process::builtin),
    ("touch", make::touch),
    ("tr", tr::tr),
    ("true", process::succeed),
    ("udevadm", services::udevadm),
    ("ufw", ufw::ufw),
    ("uname", process::uname),
    ("uniq", text::uniq),
    ("unlink", remove::unlink),
    ("update-alternatives", alternatives::update_alternatives),
    ("update-mime", mailcap::update_mime),
    ("update-rc.d", services::update_rc_d),
    ("useradd", adduser::useradd),
    ("usermod", adduser::usermod),
    ("wc", text::wc),
    ("which", name::which),
    ("xargs", xargs::xargs),
];

/// The command `name`.
pub(crate) fn find(name: &[u8]) -> Option<Command> {
    let known = COMMANDS
        .iter()
        .find(|(known, _)| known.as_bytes() == name)
        .map(|&(_, command)| command);
    // Python goes by its version.
    let versioned = || {
        let version = name.strip_prefix(b"python")?;
        version
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.')
            .then_some(python::python as Command)
    };
    known.or_else(versioned)
}
