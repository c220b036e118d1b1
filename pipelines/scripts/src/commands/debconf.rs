//! debconf.
use super::Command;
use crate::shell::Shell;
use crate::stop::Run;

#[derive(Debug, Default)]
pub(crate) struct Session {
    active: bool,
}
impl Session {
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }
    pub(crate) fn enter_script(&mut self) -> bool {
        std::mem::take(&mut self.active)
    }
    pub(crate) fn leave_script(&mut self, before: bool) {
        self.active = before;
    }
}
pub(crate) fn is_confmodule(file: &[u8]) -> bool {
    file.ends_with(b"/usr/share/debconf/confmodule")
}
pub(crate) fn start(shell: &mut Shell<'_>) -> Run<i32> {
    shell.debconf.active = true;
    Ok(0)
}
pub(crate) fn find(_: &[u8]) -> Option<Command> {
    None
}
