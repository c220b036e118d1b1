//! Running a sed script over its input.

use super::program::{Action, Address, Piece, Range, Step};
use crate::regex::Regex;
use crate::shell::Shell;
use crate::stop::Run;

pub(super) struct Ran {
    pub(super) out: Vec<u8>,
    /// Where `q` ended it.
    pub(super) status: Option<i32>,
}

struct State<'p> {
    lines: Vec<(&'p [u8], bool)>,
    /// The line at hand, from 1.
    number: usize,
    /// Whether the line at hand ended in a newline.
    newline: bool,
    pattern: Vec<u8>,
    hold: Vec<u8>,
    out: Vec<u8>,
    appended: Vec<Vec<u8>>,
    quiet: bool,
    replaced: bool,
    /// For each command with two addresses: the line at which its range ends, once it has begun.
    open: Vec<Option<Option<usize>>>,
    last_regex: Option<&'p Regex>,
    missing_newline: bool,
}

enum Flow {
    Next,
    Jump(usize),
    /// End of the cycle; whether the pattern space is printed and a line read.
    End {
        print: bool,
        read: bool,
    },
    Quit {
        print: bool,
        status: i32,
    },
}

pub(super) fn run(
    shell: &mut Shell<'_>,
    program: &[Step],
    texts: &[Vec<u8>],
    quiet: bool,
) -> Run<Ran> {
    let mut lines: Vec<(&[u8], bool)> = Vec::new();
    for text in texts {
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => lines.push((line, true)),
                None => lines.push((line, false)),
            }
        }
    }
    let mut state = State {
        lines,
        number: 0,
        newline: true,
        pattern: Vec::new(),
        hold: Vec::new(),
        out: Vec::new(),
        appended: Vec::new(),
        quiet,
        replaced: false,
        open: program.iter().map(|_| None).collect(),
        last_regex: None,
        missing_newline: false,
    };
    let mut read = true;
    let mut status = None;
    loop {
        if read {
            if !state.read() {
                break;
            }
            state.replaced = false;
        }
        match state.cycle(shell, program)? {
            Flow::Quit {
                print,
                status: code,
            } => {
                if print {
                    state.end_cycle(true);
                }
                status = Some(code);
                break;
            }
            Flow::End { print, read: again } => {
                state.end_cycle(print);
                read = again;
            }
            Flow::Next | Flow::Jump(_) => {
                state.end_cycle(true);
                read = true;
            }
        }
        let size = u64::try_from(state.out.len()).unwrap_or(u64::MAX);
        shell.files.budget.object(size)?;
    }
    Ok(Ran {
        out: state.out,
        status,
    })
}

impl<'p> State<'p> {
    fn read(&mut self) -> bool {
        match self.lines.get(self.number) {
            Some(&(line, newline)) => {
                self.number = self.number.saturating_add(1);
                self.pattern = line.to_vec();
                self.newline = newline;
                true
            }
            None => false,
        }
    }

    fn is_last(&self) -> bool {
        self.number >= self.lines.len()
    }

    fn print(&mut self, bytes: &[u8], newline: bool) {
        if std::mem::take(&mut self.missing_newline) {
            self.out.push(b'\n');
        }
        self.out.extend_from_slice(bytes);
        if newline {
            self.out.push(b'\n');
        } else {
            self.missing_newline = true;
        }
    }

    fn end_cycle(&mut self, print: bool) {
        if print && !self.quiet {
            let pattern = self.pattern.clone();
            self.print(&pattern, self.newline);
        }
        self.flush_appended();
    }

    fn flush_appended(&mut self) {
        for text in std::mem::take(&mut self.appended) {
            if text.is_empty() {
                if std::mem::take(&mut self.missing_newline) {
                    self.out.push(b'\n');
                }
                continue;
            }
            let text = text.strip_suffix(b"\n").unwrap_or(&text).to_vec();
            self.print(&text, true);
        }
    }

    fn cycle(&mut self, shell: &mut Shell<'_>, program: &'p [Step]) -> Run<Flow> {
        let mut at = 0_usize;
        while let Some(step) = program.get(at) {
            shell.files.budget.step(1)?;
            let applies = self.applies(shell, at, &step.range)?;
            let next = at.saturating_add(1);
            if !applies {
                at = match step.action {
                    Action::Open(close) => close.saturating_add(1),
                    _ => next,
                };
                continue;
            }
            match self.apply(shell, at, step)? {
                Flow::Next => at = next,
                Flow::Jump(to) => at = to,
                flow => return Ok(flow),
            }
        }
        Ok(Flow::End {
            print: true,
            read: true,
        })
    }

    fn matches(&mut self, shell: &mut Shell<'_>, address: &'p Address) -> Run<bool> {
        Ok(match address {
            Address::Line(line) => self.number == *line,
            Address::Last => self.is_last(),
            Address::Step(first, 0) => self.number == *first,
            Address::Step(first, step) => {
                self.number >= *first
                    && self
                        .number
                        .saturating_sub(*first)
                        .checked_rem(*step)
                        .is_some_and(|rest| rest == 0)
            }
            Address::Plus(_) => false,
            Address::Match(regex) => {
                let Some(regex) = regex.as_ref().or(self.last_regex) else {
                    return shell.usage(b"sed", "no previous regular expression");
                };
                self.last_regex = Some(regex);
                regex.is_match(&self.pattern, &mut shell.files.budget)?
            }
        })
    }

    fn applies(&mut self, shell: &mut Shell<'_>, index: usize, range: &'p Range) -> Run<bool> {
        let selected = match (&range.first, &range.second) {
            (None, _) => true,
            (Some(first), None) => self.matches(shell, first)?,
            (Some(first), Some(second)) => {
                let state = self.open.get(index).copied().flatten();
                let zero = matches!(first, Address::Line(0)) && state.is_none();
                match state {
                    None if zero => {
                        let ends = self.matches(shell, second)?;
                        self.set_open(index, if ends { Some(Some(0)) } else { Some(None) });
                        true
                    }
                    // A range that has ended: one that begins with a line cannot begin again.
                    Some(Some(0)) if matches!(first, Address::Line(_)) => false,
                    None | Some(Some(0)) => {
                        // Where its first line went by before the command was reached, the range begins late, unless
                        // its last line went by too.
                        let (begins, late) = match first {
                            Address::Line(line) => (self.number >= *line, self.number > *line),
                            first => (self.matches(shell, first)?, false),
                        };
                        let over =
                            late && matches!(second, Address::Line(last) if self.number > *last);
                        if begins && over {
                            self.set_open(index, Some(Some(0)));
                        } else if begins {
                            let end = match second {
                                Address::Line(line) => Some((*line).max(self.number)),
                                Address::Plus(count) => Some(self.number.saturating_add(*count)),
                                _ => None,
                            };
                            let done = end.is_some_and(|end| end <= self.number)
                                || (matches!(second, Address::Last) && self.is_last());
                            self.set_open(index, if done { Some(Some(0)) } else { Some(end) });
                        }
                        begins && !over
                    }
                    Some(end) => match end {
                        Some(end) => {
                            if self.number >= end {
                                self.set_open(index, Some(Some(0)));
                            }
                            // A line address that was passed over ends the range without this line.
                            self.number <= end || matches!(second, Address::Plus(_))
                        }
                        None => {
                            if self.matches(shell, second)? {
                                self.set_open(index, Some(Some(0)));
                            }
                            true
                        }
                    },
                }
            }
        };
        Ok(selected != range.negated)
    }

    fn set_open(&mut self, index: usize, value: Option<Option<usize>>) {
        if let Some(place) = self.open.get_mut(index) {
            *place = value;
        }
    }

    fn apply(&mut self, shell: &mut Shell<'_>, index: usize, step: &'p Step) -> Run<Flow> {
        match &step.action {
            Action::Open(_) | Action::Close | Action::Label => {}
            Action::Substitute {
                regex,
                replacement,
                global,
                number,
                print,
            } => {
                let Some(regex) = regex.as_ref().or(self.last_regex) else {
                    return shell.usage(b"sed", "no previous regular expression");
                };
                self.last_regex = Some(regex);
                if self.substitute(shell, regex, replacement, *global, *number)? {
                    self.replaced = true;
                    if *print {
                        let pattern = self.pattern.clone();
                        self.print(&pattern, true);
                    }
                }
            }
            Action::Delete => {
                return Ok(Flow::End {
                    print: false,
                    read: true,
                });
            }
            Action::DeleteFirst => {
                return Ok(match self.pattern.iter().position(|&byte| byte == b'\n') {
                    Some(at) => {
                        self.pattern.drain(..=at);
                        Flow::End {
                            print: false,
                            read: false,
                        }
                    }
                    None => Flow::End {
                        print: false,
                        read: true,
                    },
                });
            }
            Action::Print => {
                let pattern = self.pattern.clone();
                self.print(&pattern, true);
            }
            Action::PrintFirst => {
                let end = self
                    .pattern
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .unwrap_or(self.pattern.len());
                let first = self.pattern.get(..end).unwrap_or_default().to_vec();
                self.print(&first, true);
            }
            Action::Quit { print, status } => {
                return Ok(Flow::Quit {
                    print: *print,
                    status: *status,
                });
            }
            Action::Append(text) => self.appended.push(text.clone()),
            Action::Insert(text) => {
                let text = text.strip_suffix(b"\n").unwrap_or(text).to_vec();
                self.print(&text, true);
            }
            Action::Change(text) => {
                let in_range = step.range.second.is_some() && !step.range.negated;
                let ended = matches!(self.open.get(index), Some(Some(Some(0)) | None));
                if !in_range || ended {
                    let text = text.strip_suffix(b"\n").unwrap_or(text).to_vec();
                    self.print(&text, true);
                }
                return Ok(Flow::End {
                    print: false,
                    read: true,
                });
            }
            Action::Number => {
                let number = self.number.to_string().into_bytes();
                self.print(&number, true);
            }
            Action::Next => {
                if self.is_last() {
                    // GNU's prints the pattern space and ends.
                    return Ok(Flow::Quit {
                        print: true,
                        status: 0,
                    });
                }
                self.end_cycle(true);
                self.read();
            }
            Action::NextAppend => {
                if self.is_last() {
                    return Ok(Flow::Quit {
                        print: true,
                        status: 0,
                    });
                }
                let before = std::mem::take(&mut self.pattern);
                self.flush_appended();
                self.read();
                self.pattern = [&before[..], b"\n", &self.pattern].concat();
                let size = u64::try_from(self.pattern.len()).unwrap_or(u64::MAX);
                shell.files.budget.bytes(size)?;
                shell.files.budget.object(size)?;
            }
            Action::Hold => self.hold = self.pattern.clone(),
            Action::HoldAppend => {
                self.hold.push(b'\n');
                self.hold.extend_from_slice(&self.pattern);
                self.check(shell, self.hold.len())?;
            }
            Action::Get => self.pattern = self.hold.clone(),
            Action::GetAppend => {
                self.pattern.push(b'\n');
                self.pattern.extend_from_slice(&self.hold);
                self.check(shell, self.pattern.len())?;
            }
            Action::Exchange => std::mem::swap(&mut self.pattern, &mut self.hold),
            Action::Map(map) => {
                for byte in &mut self.pattern {
                    *byte = map.get(usize::from(*byte)).copied().unwrap_or(*byte);
                }
            }
            Action::Branch(to) => return Ok(Flow::Jump(*to)),
            Action::BranchIf(to) => {
                if std::mem::take(&mut self.replaced) {
                    return Ok(Flow::Jump(*to));
                }
            }
        }
        Ok(Flow::Next)
    }

    fn check(&self, shell: &mut Shell<'_>, size: usize) -> Run<()> {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        shell.files.budget.bytes(size)?;
        shell.files.budget.object(size)
    }

    fn substitute(
        &mut self,
        shell: &mut Shell<'_>,
        regex: &Regex,
        replacement: &[Piece],
        global: bool,
        number: usize,
    ) -> Run<bool> {
        let text = std::mem::take(&mut self.pattern);
        let mut out = Vec::new();
        let mut at = 0_usize;
        let mut count = 0_usize;
        let mut replaced = false;
        // An empty match directly after another match does not count.
        let mut last_end: Option<usize> = None;
        while at <= text.len() {
            let Some(captures) = regex.find(&text, at, &mut shell.files.budget)? else {
                break;
            };
            let Some(Some((begin, end))) = captures.first().copied() else {
                break;
            };
            out.extend_from_slice(text.get(at..begin).unwrap_or_default());
            let counts = end > begin || last_end != Some(begin);
            if counts {
                count = count.saturating_add(1);
                if count == number || (global && count >= number) {
                    expand(replacement, &text, &captures, &mut out);
                    replaced = true;
                } else {
                    out.extend_from_slice(text.get(begin..end).unwrap_or_default());
                }
                last_end = Some(end);
            }
            if end > begin {
                at = end;
            } else {
                out.extend(text.get(begin));
                at = begin.saturating_add(1);
            }
            self.check(shell, out.len())?;
            if replaced && !global {
                break;
            }
        }
        out.extend_from_slice(text.get(at.min(text.len())..).unwrap_or_default());
        self.pattern = if replaced { out } else { text };
        Ok(replaced)
    }
}

fn expand(
    replacement: &[Piece],
    text: &[u8],
    captures: &[Option<(usize, usize)>],
    out: &mut Vec<u8>,
) {
    let mut case = b'E';
    let mut once: Option<u8> = None;
    for piece in replacement {
        let bytes: &[u8] = match piece {
            Piece::Text(bytes) => bytes,
            Piece::Group(group) => captures
                .get(*group)
                .copied()
                .flatten()
                .and_then(|(begin, end)| text.get(begin..end))
                .unwrap_or_default(),
            Piece::Case(letter @ (b'u' | b'l')) => {
                once = Some(*letter);
                continue;
            }
            Piece::Case(letter) => {
                case = *letter;
                continue;
            }
        };
        for &byte in bytes {
            out.push(match (once.take(), case) {
                (Some(b'u'), _) | (None, b'U') => byte.to_ascii_uppercase(),
                (Some(_), _) | (None, b'L') => byte.to_ascii_lowercase(),
                _ => byte,
            });
        }
    }
}
