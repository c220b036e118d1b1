//! The report as one self-contained page: no script, nothing fetched, everything a guest named escaped.

use dormouse_block::{Error, Result, escape_terminal};
use minijinja::{AutoEscape, Environment, context};

use super::{ReportFormat, RunReport};

pub(crate) struct Html;

impl ReportFormat for Html {
    fn name(&self) -> &'static str {
        "html"
    }

    fn render(&self, report: &RunReport) -> Result<Vec<u8>> {
        let fail = |error: minijinja::Error| Error::corrupt("cannot draw the page").because(error);
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        // Direction overrides could make a page read differently from its bytes.
        environment.add_filter("plain", |text: String| escape_terminal(&text).into_owned());
        environment
            .add_template("page", include_str!("page.html"))
            .map_err(fail)?;
        let page = environment
            .get_template("page")
            .and_then(|template| {
                template.render(context! { report => minijinja::value::Serde(report) })
            })
            .map_err(fail)?;
        Ok(page.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{MachineReport, PointReport, ReportFinding, ReportLeft, Totals};

    #[test]
    fn what_a_guest_named_cannot_leave_its_place() {
        let report = RunReport {
            schema: "dormouse/run/v1".into(),
            run: "r1".into(),
            tool: "dormouse 0.1.0".into(),
            pipeline: "demo".into(),
            baseline: "b".into(),
            as_of: "2026-01-01T00:00:00Z".into(),
            feeds: vec!["bookworm-security".into()],
            totals: Totals::default(),
            machines: vec![MachineReport {
                machine: "<script>alert(1)</script>".into(),
                format: "qcow2".into(),
                files: vec!["a\u{202e}b".into()],
                points: vec![PointReport {
                    point: "active".into(),
                    name: "active".into(),
                    power: "cold".into(),
                    os: "\"><img src=x>".into(),
                    packages: 1,
                    verdict: "non-compliant".into(),
                    after: None,
                    action: "patched".into(),
                    left: vec![ReportLeft {
                        what: "<b>grub".into(),
                        why: "<b>no".into(),
                    }],
                    first_boot: Some("<b>done".into()),
                    outputs: [("evidence".to_owned(), "evidence/a.json".to_owned())].into(),
                    findings: vec![ReportFinding {
                        package: "openssl".into(),
                        installed: "1".into(),
                        wanted: "2".into(),
                        severity: Some("<b>high".into()),
                        until: Some(jiff::Timestamp::UNIX_EPOCH),
                        overdue: Some(true),
                        why: "<i>loud".into(),
                        waiver: None,
                    }],
                    gaps: vec![],
                }],
                gaps: vec![],
            }],
            gaps: vec![],
        };
        let page = String::from_utf8(Html.render(&report).unwrap()).unwrap();
        assert!(page.contains("&lt;script&gt;"));
        assert!(page.contains("1970-01-01T00:00:00Z (overdue)"));
        assert!(page.contains("judged as of 2026-01-01T00:00:00Z"));
        for hostile in [
            "<script", "<img", "<i>", "<b>grub", "<b>no", "<b>done", "<b>high", "\u{202e}",
        ] {
            assert!(!page.contains(hostile), "{hostile:?} is in the page");
        }
    }
}
