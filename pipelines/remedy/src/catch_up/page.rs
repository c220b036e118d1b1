//! A catch-up as a page for people.

use std::fmt::Write as _;

use super::{CatchUp, CatchUpStep, Check, Route};

/// Columns of the page.
const WIDTH: usize = 96;

impl CatchUp {
    /// The plan as plain text, made for 96 columns. Control characters of what the guest says are left out.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = Page(String::new());
        page.line(0, &format!("Catch-up of {}", self.at));
        page.line(0, &format!("as of {}", self.as_of));
        page.heading("Why it is not touched");
        for why in &self.untouchable {
            page.item(why);
        }
        if let Some(kernel) = &self.kernel {
            page.item(&format!(
                "it wakes with the kernel {}; its disk starts {}",
                kernel.running.release, kernel.on_disk.release
            ));
        }
        page.heading("When");
        self.draw_when(&mut page);
        page.heading("What it takes");
        page.item(&format!(
            "{} of package files, {} on its disk, about {}{}",
            size(self.cost.payload_bytes),
            size(self.cost.expected_bytes),
            time(self.cost.seconds),
            if self.cost.restart_seconds > 0 {
                ", a restart included"
            } else {
                ""
            }
        ));
        page.heading("What is done, in that order");
        self.draw_steps(&mut page);
        page.heading("What must hold before it is handed over");
        let versions = self
            .checks
            .iter()
            .filter(|check| matches!(check, Check::Installed { .. }))
            .count();
        if versions > 0 {
            page.item(&format!(
                "{versions} packages are installed and configured in these versions or later ones"
            ));
        }
        for check in &self.checks {
            if let Check::Fixed { fix } = check {
                page.item(&format!("the fix {fix} is made"));
            }
        }
        if self.checks.contains(&Check::NothingOutstanding) {
            page.item("dpkg has nothing outstanding");
        }
        page.item("`dormouse check` passes");
        if !self.blocked.is_empty() {
            page.heading("What stays behind");
            for blocked in &self.blocked {
                page.item(&format!("{}: {}", blocked.name, blocked.why.join("; ")));
            }
        }
        page.heading("The ways there are");
        for route in &self.routes {
            self.draw_route(&mut page, route);
        }
        page.0
    }

    fn draw_when(&self, page: &mut Page) {
        match &self.when.not_now {
            Some(why) => page.item(&format!("not now: {why}")),
            None => page.item("at any time, as far as its change windows go"),
        }
        for slot in &self.when.slots {
            page.item(&format!(
                "{} until {} ({}; {})",
                slot.from, slot.until, slot.window, slot.local
            ));
        }
        if let Some(deadline) = self.when.deadline {
            page.item(&format!("by {deadline}"));
        }
        if let Some(late) = &self.when.late {
            page.item(late);
        }
    }

    fn draw_steps(&self, page: &mut Page) {
        let mut number = 0_usize;
        let mut installs = false;
        for step in &self.steps {
            let text = match step {
                CatchUpStep::Install {
                    package, from, to, ..
                } => {
                    if !installs {
                        number = number.saturating_add(1);
                        page.numbered(number, "install, once every package file was checked:");
                        installs = true;
                    }
                    let from = from.as_deref().unwrap_or("(new)");
                    page.line(6, &format!("{package}  {from} -> {to}"));
                    continue;
                }
                CatchUpStep::ForensicTriage { because } => {
                    format!(
                        "look for signs of an intrusion first: {}",
                        because.join("; ")
                    )
                }
                CatchUpStep::PreserveMemory { note } => note.clone(),
                CatchUpStep::IsolateNetwork => "keep its network away".to_owned(),
                CatchUpStep::Fix { fix } => format!("make the fix {}: {}", fix.id, fix.title),
                CatchUpStep::RestartServices { units } => format!(
                    "restart {}",
                    units
                        .iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
                CatchUpStep::Reboot { because } => format!("start it anew: {}", because.join("; ")),
                CatchUpStep::RestoreNetwork => "give its network back".to_owned(),
            };
            number = number.saturating_add(1);
            page.numbered(number, &text);
        }
    }

    fn draw_route(&self, page: &mut Page, route: &Route) {
        let chosen = if self.recommended.route == route.route {
            format!(" (recommended: {})", self.recommended.because)
        } else {
            String::new()
        };
        page.item(&format!("{}{chosen}", route.route.as_str()));
        if let Some(why) = &route.impossible {
            page.line(6, &format!("not to be had: {why}"));
            return;
        }
        page.line(
            6,
            &format!(
                "about {}, awake with old packages for {}, {} of disk",
                time(route.seconds),
                time(route.exposed_seconds),
                size(route.disk_bytes)
            ),
        );
        for loss in &route.loses {
            page.line(6, &format!("loses {loss}"));
        }
        for step in &route.steps {
            page.line(6, &format!("- {step}"));
        }
    }
}

/// A page being written.
struct Page(String);

impl Page {
    fn heading(&mut self, text: &str) {
        self.0.push('\n');
        self.line(0, text);
    }

    fn item(&mut self, text: &str) {
        self.line(2, &format!("- {text}"));
    }

    fn numbered(&mut self, number: usize, text: &str) {
        self.line(2, &format!("{number}. {text}"));
    }

    /// A line, broken between words where it is too long; what follows stands two columns further right.
    fn line(&mut self, indent: usize, text: &str) {
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        let mut column = 0_usize;
        let mut left = indent;
        for word in plain.split(' ').filter(|word| !word.is_empty()) {
            let width = word.chars().count();
            if column == 0 {
                let _ = write!(self.0, "{:left$}{word}", "");
                column = left.saturating_add(width);
            } else if column.saturating_add(width) >= WIDTH {
                left = indent.saturating_add(2);
                let _ = write!(self.0, "\n{:left$}{word}", "");
                column = left.saturating_add(width);
            } else {
                let _ = write!(self.0, " {word}");
                column = column.saturating_add(width).saturating_add(1);
            }
        }
        self.0.push('\n');
    }
}

/// Bytes in the largest unit that leaves a whole part.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes)
                .saturating_mul(10)
                .div_euclid(u128::from(unit));
            return format!("{}.{} {name}", tenths.div_euclid(10), tenths.rem_euclid(10));
        }
    }
    format!("{bytes} bytes")
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}
