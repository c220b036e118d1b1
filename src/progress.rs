//! Progress on standard error: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dormouse_block::{Locator, escape_terminal};
use dormouse_engine::{Observer, StageName};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much is said beside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Say nothing but errors.
    pub(crate) quiet: bool,
    /// Draw no bars.
    pub(crate) no_progress: bool,
}

/// Shows a run's progress.
pub(crate) struct Progress {
    manner: Manner,
    bars: bool,
    state: Mutex<Option<Stage>>,
}

struct Stage {
    name: StageName,
    bar: ProgressBar,
    began: Instant,
    things: u64,
    remembered: u64,
    bytes: u64,
}

impl Progress {
    /// Progress in this manner.
    #[must_use]
    pub(crate) fn new(manner: Manner) -> Self {
        let bars = !manner.quiet && !manner.no_progress && std::io::stderr().is_terminal();
        Self {
            manner,
            bars,
            state: Mutex::new(None),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Option<Stage>) -> T) -> T {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        act(&mut state)
    }

    /// Ends the last stage's line.
    pub(crate) fn finish(&self) {
        self.with(|state| {
            if let Some(stage) = state.take() {
                self.end(&stage);
            }
        });
    }

    fn end(&self, stage: &Stage) {
        stage.bar.finish_and_clear();
        if self.manner.quiet {
            return;
        }
        let done = stage.bar.position().max(stage.things);
        let mut line = format!("{:<9} {done:>6} done", stage.name.as_str());
        if stage.remembered > 0 {
            line.push_str(&format!(", {} of them before", stage.remembered));
        }
        if stage.bytes > 0 {
            line.push_str(&format!(", {}", indicatif::HumanBytes(stage.bytes)));
        }
        line.push_str(&format!(", {:.1} s", stage.began.elapsed().as_secs_f64()));
        self.say(&line);
    }

    #[expect(clippy::print_stderr, reason = "progress is said on standard error")]
    fn say(&self, line: &str) {
        eprintln!("{line}");
    }
}

impl Observer for Progress {
    fn stage(&self, stage: StageName, things: u64) {
        self.with(|state| {
            if let Some(before) = state.take() {
                self.end(&before);
            }
            let bar = if self.bars {
                let style = "{prefix:<9} {pos:>6}/{len} {wide_bar:.dim} {per_sec} {eta} left {msg}";
                let bar = ProgressBar::with_draw_target(Some(things), ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template(style) {
                    bar.set_style(style);
                }
                bar.set_prefix(stage.as_str());
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            } else {
                ProgressBar::with_draw_target(Some(things), ProgressDrawTarget::hidden())
            };
            *state = Some(Stage {
                name: stage,
                bar,
                began: Instant::now(),
                things: 0,
                remembered: 0,
                bytes: 0,
            });
        });
    }

    fn done(&self, stage: StageName, at: &Locator, remembered: bool) {
        self.with(|state| {
            if let Some(current) = state.as_mut().filter(|current| current.name == stage) {
                current.things = current.things.saturating_add(1);
                if remembered {
                    current.remembered = current.remembered.saturating_add(1);
                }
                current.bar.inc(1);
                if let Some(machine) = &at.machine {
                    current
                        .bar
                        .set_message(escape_terminal(machine).into_owned());
                }
            }
        });
    }

    fn bytes(&self, stage: StageName, bytes: u64) {
        self.with(|state| {
            if let Some(current) = state.as_mut().filter(|current| current.name == stage) {
                current.bytes = current.bytes.saturating_add(bytes);
            }
        });
    }

    fn note(&self, at: &Locator, what: &str) {
        if self.manner.quiet {
            return;
        }
        self.with(|state| {
            let line = format!("note: {at}: {}", escape_terminal(what));
            match state {
                Some(stage) if self.bars => stage.bar.suspend(|| self.say(&line)),
                _ => self.say(&line),
            }
        });
    }
}
