//! The `dormouse` program.

fn main() -> std::process::ExitCode {
    dormouse::run(std::env::args_os())
}
