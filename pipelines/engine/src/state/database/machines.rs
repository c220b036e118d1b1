//! What runs record of machines and their restore points, and what later runs want of that.

use super::{Database, PointRow, fail};
use dormouse_block::Digest;
use dormouse_block::Error;
use dormouse_block::Gap;
use dormouse_block::Result;
use dormouse_policy::History;
use dormouse_policy::stage::Taken;
use dormouse_policy::stage::Update;
use jiff::Timestamp;
use rusqlite::params;
use std::collections::BTreeMap;

impl Database {
    /// Records a machine of a run with all its restore points, in the place of what was recorded of it before.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn record_machine(
        &self,
        run: &str,
        as_of: Timestamp,
        machine: &str,
        format: &str,
        files: &[String],
        points: &[PointRow],
    ) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(fail)?;
        for table in [
            "machines",
            "restore_points",
            "packages",
            "findings",
            "cves",
            "deadlines",
            "gaps",
        ] {
            transaction
                .execute(
                    &format!("delete from {table} where run = ?1 and machine = ?2"),
                    [run, machine],
                )
                .map_err(fail)?;
        }
        transaction
            .execute(
                "insert into machines (run, machine, format, files) values (?1, ?2, ?3, ?4)",
                params![run, machine, format, files.join("\n")],
            )
            .map_err(fail)?;
        for point in points {
            record_point(&transaction, run, point).map_err(fail)?;
            record_sightings(&transaction, as_of, point).map_err(fail)?;
        }
        transaction.commit().map_err(fail)
    }

    /// Records why a machine could not be opened.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn record_gaps(&self, run: &str, machine: &str, gaps: &[Gap]) -> Result<()> {
        let connection = self.connection();
        for gap in gaps {
            connection
                .execute(
                    "insert into gaps (run, machine, point, place, kind, why, may_hide_packages)
                     values (?1, ?2, '', ?3, ?4, ?5, ?6)",
                    params![
                        run,
                        machine,
                        gap.at.to_string(),
                        gap.kind.as_str(),
                        gap.why,
                        gap.may_hide_packages
                    ],
                )
                .map_err(fail)?;
        }
        Ok(())
    }

    /// When findings were first seen, by machine.
    ///
    /// # Errors
    /// As [`Database::unfinished`]; `Corrupt` for an instant that does not read.
    pub fn histories(&self) -> Result<BTreeMap<String, History>> {
        let connection = self.connection();
        let mut statement = connection
            .prepare("select machine, package, what, seen from first_seen")
            .map_err(fail)?;
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, String>(3)?,
                ))
            })
            .map_err(fail)?;
        let mut histories = BTreeMap::<String, History>::new();
        for row in rows {
            let (machine, package, what, seen) = row.map_err(fail)?;
            let seen = seen.parse().map_err(|error: jiff::Error| {
                Error::corrupt("the state holds a bad instant").because(error)
            })?;
            histories
                .entry(machine)
                .or_default()
                .note(package, what, seen);
        }
        Ok(histories)
    }

    /// Which machines took which updates, and since when their verification stands.
    ///
    /// # Errors
    /// As [`Database::histories`].
    pub fn taken(&self) -> Result<Vec<Taken>> {
        let connection = self.connection();
        let mut statement = connection
            .prepare(
                "select machine, package_set, package, version, verified from taken
                 order by machine, package, version",
            )
            .map_err(fail)?;
        let rows = statement
            .query_map([], |row| {
                let texts: [String; 5] = [
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ];
                Ok(texts)
            })
            .map_err(fail)?;
        let mut taken = Vec::new();
        for row in rows {
            let [machine, group, package, version, verified] = row.map_err(fail)?;
            let bad = || Error::corrupt("the state holds a bad record of an update");
            taken.push(Taken {
                machine,
                group: Digest::from_hex(&group).ok_or_else(bad)?,
                update: Update { package, version },
                verified: verified.parse().map_err(|_| bad())?,
            });
        }
        Ok(taken)
    }

    /// Records what a machine took and stands with; or, where its verification failed, that it does not.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn record_taken(
        &self,
        machine: &str,
        group: Digest,
        updates: &[Update],
        verified: Option<Timestamp>,
    ) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(fail)?;
        for update in updates {
            match verified {
                Some(verified) => transaction.execute(
                    "insert into taken (machine, package_set, package, version, verified)
                     values (?1, ?2, ?3, ?4, ?5)
                     on conflict (machine, package, version)
                     do update set verified = min(verified, excluded.verified)",
                    params![
                        machine,
                        group.hex(),
                        update.package,
                        update.version,
                        format!("{verified:.9}")
                    ],
                ),
                None => transaction.execute(
                    "delete from taken where machine = ?1 and package = ?2 and version = ?3",
                    params![machine, update.package, update.version],
                ),
            }
            .map_err(fail)?;
        }
        transaction.commit().map_err(fail)
    }
}

fn record_point(
    transaction: &rusqlite::Transaction<'_>,
    run: &str,
    point: &PointRow,
) -> rusqlite::Result<()> {
    let count = i64::try_from(point.packages.len()).unwrap_or(i64::MAX);
    transaction.execute(
        "insert into restore_points (run, machine, point, name, kind, power, os, verdict, after, action, packages, complete)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            run, point.machine, point.point, point.name, point.kind, point.power, point.os, point.verdict,
            point.after, point.action, count, point.complete
        ],
    )?;
    let mut statement = transaction.prepare_cached(
        "insert into packages (run, machine, point, name, architecture, version, source, source_version, state, purl)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for package in &point.packages {
        statement.execute(params![
            run,
            point.machine,
            point.point,
            package.name,
            package.architecture,
            package.version,
            package.source,
            package.source_version,
            package.state,
            package.purl
        ])?;
    }
    let mut statement = transaction.prepare_cached(
        "insert into findings (run, machine, point, package, installed, wanted, rule, why, waiver)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut cves = transaction.prepare_cached(
        "insert into cves (run, machine, point, package, cve, advisory, installed, fixed, wanted, urgency, exploited, epss)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    let mut deadlines = transaction.prepare_cached(
        "insert into deadlines (run, machine, point, package, rule, severity, exploited, since, until, overdue, deadline, cve, waiver)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for finding in &point.findings {
        if let Some(due) = &finding.due {
            deadlines.execute(params![
                run,
                point.machine,
                point.point,
                finding.package,
                finding.rule,
                finding.severity,
                finding.cves.iter().any(|cve| cve.exploited),
                due.since.to_string(),
                due.until.map(|until| until.to_string()),
                due.overdue,
                due.rule,
                due.cve,
                finding.waiver
            ])?;
        }
        for cve in &finding.cves {
            cves.execute(params![
                run,
                point.machine,
                point.point,
                finding.package,
                cve.id,
                cve.advisory,
                finding.installed,
                cve.fixed,
                finding.wanted,
                cve.urgency,
                cve.exploited,
                cve.epss
            ])?;
        }
        statement.execute(params![
            run,
            point.machine,
            point.point,
            finding.package,
            finding.installed,
            finding.wanted,
            finding.rule,
            finding.why,
            finding.waiver
        ])?;
    }
    let mut statement = transaction.prepare_cached(
        "insert into gaps (run, machine, point, place, kind, why, may_hide_packages) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (place, kind, why, hides) in &point.gaps {
        statement.execute(params![
            run,
            point.machine,
            point.point,
            place,
            kind,
            why,
            hides
        ])?;
    }
    Ok(())
}

/// Notes what was seen; the earliest instant stays.
fn record_sightings(
    transaction: &rusqlite::Transaction<'_>,
    as_of: Timestamp,
    point: &PointRow,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "insert into first_seen (machine, package, what, seen) values (?1, ?2, ?3, ?4)
         on conflict (machine, package, what) do update set seen = min(seen, excluded.seen)",
    )?;
    // All of one length, so that their order as text is theirs in time.
    let seen = format!("{as_of:.9}");
    for finding in &point.findings {
        for what in &finding.sightings {
            statement.execute(params![point.machine, finding.package, what, seen])?;
        }
    }
    Ok(())
}
