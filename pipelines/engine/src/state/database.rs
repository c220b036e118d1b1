//! The database: runs, machines, restore points, packages, findings, gaps, and the results of finished stages.

mod machines;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dormouse_block::{Digest, Error, Identity, Result};
use dormouse_policy::{Due, MendedCve};
use rusqlite::{Connection, OptionalExtension, params};

use crate::StageName;

/// The version of the tables; another version's tables of results are dropped, for they can be made again.
const VERSION: i64 = 1;

const TABLES: &str = "
create table if not exists runs (
    run text primary key, pipeline text not null, library text not null, output text not null,
    key text not null, as_of text not null, status text not null, exit_code integer, report text
) strict;
create table if not exists machines (
    run text not null, machine text not null, format text not null, files text not null,
    primary key (run, machine)
) strict;
create table if not exists restore_points (
    run text not null, machine text not null, point text not null, name text not null, kind text not null,
    power text not null, os text not null, verdict text not null, after text, action text not null,
    packages integer not null, complete integer not null,
    primary key (run, machine, point)
) strict;
create table if not exists packages (
    run text not null, machine text not null, point text not null, name text not null, architecture text not null,
    version text not null, source text not null, source_version text not null, state text not null, purl text not null
) strict;
create index if not exists packages_by_name on packages (run, name, version);
create table if not exists findings (
    run text not null, machine text not null, point text not null, package text not null, installed text not null,
    wanted text not null, rule text not null, why text not null, waiver text
) strict;
create index if not exists findings_by_package on findings (run, package);
create table if not exists cves (
    run text not null, machine text not null, point text not null, package text not null, cve text not null,
    advisory text, installed text not null, fixed text not null, wanted text not null, urgency text,
    exploited integer not null, epss text
) strict;
create index if not exists cves_by_name on cves (run, cve);
create table if not exists deadlines (
    run text not null, machine text not null, point text not null, package text not null, rule text not null,
    severity text, exploited integer not null, since text not null, until text, overdue integer not null,
    deadline text not null, cve text, waiver text
) strict;
create index if not exists deadlines_by_end on deadlines (run, until);
create table if not exists first_seen (
    machine text not null, package text not null, what text not null, seen text not null,
    primary key (machine, package, what)
) strict;
create table if not exists taken (
    machine text not null, package_set text not null, package text not null, version text not null,
    verified text not null, primary key (machine, package, version)
) strict;
create table if not exists gaps (
    run text not null, machine text not null, point text not null, place text not null, kind text not null,
    why text not null, may_hide_packages integer not null
) strict;
create table if not exists stage_results (
    key text primary key, stage text not null, machine text not null, point text not null, result text not null
) strict;
create table if not exists file_digests (
    identity text primary key, digest text not null
) strict;
";

/// The state's database. Every call is one transaction; calls from several threads take turns.
pub struct Database(Mutex<Connection>);

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub run: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The library's folder.
    pub library: String,
    /// The folder of its results.
    pub output: String,
    /// What makes two runs the same work: pipeline, library, output, and whatever else was asked.
    pub key: String,
    /// The instant it judges at, RFC 3339 UTC.
    pub as_of: String,
}

/// A restore point of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointRow {
    /// The machine.
    pub machine: String,
    /// The point's id.
    pub point: String,
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub kind: String,
    /// Its power state.
    pub power: String,
    /// The operating system.
    pub os: String,
    /// The verdict.
    pub verdict: String,
    /// The verdict after patching.
    pub after: Option<String>,
    /// What was done.
    pub action: String,
    /// Whether everything that may hold packages was read.
    pub complete: bool,
    /// Its packages.
    pub packages: Vec<PackageRow>,
    /// Its findings.
    pub findings: Vec<FindingRow>,
    /// Its gaps: place, kind, why, whether packages may be hidden.
    pub gaps: Vec<(String, String, String, bool)>,
}

/// A package of a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRow {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// Its source package.
    pub source: String,
    /// The source package's version.
    pub source_version: String,
    /// Its state.
    pub state: String,
    /// Its package URL.
    pub purl: String,
}

/// A finding of a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingRow {
    /// The package.
    pub package: String,
    /// What is installed.
    pub installed: String,
    /// What is wanted.
    pub wanted: String,
    /// The rule.
    pub rule: String,
    /// Why.
    pub why: String,
    /// The waiver that covers it.
    pub waiver: Option<String>,
    /// The CVEs that the wanted version mends.
    pub cves: Vec<MendedCve>,
    /// How bad.
    pub severity: Option<String>,
    /// Until when it may stay.
    pub due: Option<Due>,
    /// By what a later run knows it again.
    pub sightings: Vec<String>,
}

fn fail(error: rusqlite::Error) -> Error {
    Error::io(
        "the state's database cannot be used",
        std::io::Error::other(error),
    )
}

impl Database {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let located = |error| fail(error).in_file(path.display());
        let connection = Connection::open(path).map_err(located)?;
        connection
            .busy_timeout(std::time::Duration::from_secs(10))
            .map_err(located)?;
        connection
            .execute_batch("pragma journal_mode = wal; pragma synchronous = full;")
            .map_err(located)?;
        let version: i64 = connection
            .query_row("pragma user_version", [], |row| row.get(0))
            .map_err(located)?;
        if version > VERSION {
            return Err(Error::unsupported(format!(
                "the state was written by a newer dormouse (tables of version {version}, this one knows {VERSION})"
            ))
            .in_file(path.display()));
        }
        connection
            .execute_batch(&format!("{TABLES} pragma user_version = {VERSION};"))
            .map_err(located)?;
        Ok(Self(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic between two statements leaves a transaction that SQLite rolls back; the connection stays good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest run of this key that did not finish.
    ///
    /// # Errors
    /// `Io` when the database cannot be used; so for every call here.
    pub fn unfinished(&self, key: &str) -> Result<Option<RunRow>> {
        self.connection()
            .query_row(
                "select run, pipeline, library, output, key, as_of from runs
                 where key = ?1 and status = 'running' order by rowid desc limit 1",
                [key],
                |row| {
                    Ok(RunRow {
                        run: row.get(0)?,
                        pipeline: row.get(1)?,
                        library: row.get(2)?,
                        output: row.get(3)?,
                        key: row.get(4)?,
                        as_of: row.get(5)?,
                    })
                },
            )
            .optional()
            .map_err(fail)
    }

    /// Records that a run begins, or goes on.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn begin(&self, run: &RunRow) -> Result<()> {
        self.connection()
            .execute(
                "insert into runs (run, pipeline, library, output, key, as_of, status)
                 values (?1, ?2, ?3, ?4, ?5, ?6, 'running')
                 on conflict (run) do update set status = 'running', exit_code = null",
                params![
                    run.run,
                    run.pipeline,
                    run.library,
                    run.output,
                    run.key,
                    run.as_of
                ],
            )
            .map(|_| ())
            .map_err(fail)
    }

    /// Records that a run ended, with its report.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn end(&self, run: &str, exit_code: u8, report: &str) -> Result<()> {
        self.connection()
            .execute(
                "update runs set status = 'done', exit_code = ?2, report = ?3 where run = ?1",
                params![run, exit_code, report],
            )
            .map(|_| ())
            .map_err(fail)
    }

    /// The report of a run, or of the newest finished one.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn report(&self, run: Option<&str>) -> Result<Option<String>> {
        self.connection()
            .query_row(
                "select report from runs where status = 'done' and (?1 is null or run = ?1)
                 order by rowid desc limit 1",
                [run],
                |row| row.get(0),
            )
            .optional()
            .map_err(fail)
    }

    /// The result of a finished stage.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn result(&self, key: Digest) -> Result<Option<String>> {
        self.connection()
            .query_row(
                "select result from stage_results where key = ?1",
                [key.hex()],
                |row| row.get(0),
            )
            .optional()
            .map_err(fail)
    }

    /// Records the result of a finished stage.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn record(
        &self,
        key: Digest,
        stage: StageName,
        machine: &str,
        point: &str,
        result: &str,
    ) -> Result<()> {
        self.connection()
            .execute(
                "insert or replace into stage_results (key, stage, machine, point, result) values (?1, ?2, ?3, ?4, ?5)",
                params![key.hex(), stage.as_str(), machine, point, result],
            )
            .map(|_| ())
            .map_err(fail)
    }

    /// The digest of a host file in this very state.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn file_digest(&self, identity: &Identity, what: &str) -> Result<Option<Digest>> {
        let found: Option<String> = self
            .connection()
            .query_row(
                "select digest from file_digests where identity = ?1",
                [identity_key(identity, what)],
                |row| row.get(0),
            )
            .optional()
            .map_err(fail)?;
        Ok(found.as_deref().and_then(Digest::from_hex))
    }

    /// Remembers the digest of a host file in this very state.
    ///
    /// # Errors
    /// As [`Database::unfinished`].
    pub fn remember_digest(&self, identity: &Identity, what: &str, digest: Digest) -> Result<()> {
        self.connection()
            .execute(
                "insert or replace into file_digests (identity, digest) values (?1, ?2)",
                params![identity_key(identity, what), digest.hex()],
            )
            .map(|_| ())
            .map_err(fail)
    }

    /// Answers an SQL query with its column names and rows as text. The statement must not write.
    ///
    /// # Errors
    /// `Denied` for a statement that writes, `Corrupt` for bad SQL.
    pub fn query(&self, sql: &str, parameters: &[&str]) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let connection = self.connection();
        let bad =
            |error: rusqlite::Error| Error::corrupt("the query cannot be answered").because(error);
        let mut statement = connection.prepare(sql).map_err(bad)?;
        if !statement.readonly() {
            return Err(Error::denied(
                "the query would write; only reading is allowed",
            ));
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let width = columns.len();
        let rows = statement
            .query_map(rusqlite::params_from_iter(parameters), |row| {
                (0..width)
                    .map(|index| {
                        Ok(match row.get_ref(index)? {
                            rusqlite::types::ValueRef::Null => String::new(),
                            rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                            rusqlite::types::ValueRef::Real(value) => value.to_string(),
                            rusqlite::types::ValueRef::Text(value)
                            | rusqlite::types::ValueRef::Blob(value) => {
                                String::from_utf8_lossy(value).into_owned()
                            }
                        })
                    })
                    .collect::<rusqlite::Result<Vec<String>>>()
            })
            .and_then(Iterator::collect)
            .map_err(bad)?;
        Ok((columns, rows))
    }
}

fn identity_key(identity: &Identity, what: &str) -> String {
    format!(
        "{what} {} {} {} {}.{} {}.{}",
        identity.device,
        identity.inode,
        identity.len,
        identity.modified.0,
        identity.modified.1,
        identity.changed.0,
        identity.changed.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_run_is_found_again_and_a_finished_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("dormouse.db")).unwrap();
        let run = RunRow {
            run: "r".into(),
            pipeline: "p".into(),
            library: "l".into(),
            output: "o".into(),
            key: "k".into(),
            as_of: "2026-01-01T00:00:00Z".into(),
        };
        database.begin(&run).unwrap();
        assert_eq!(database.unfinished("k").unwrap(), Some(run));
        database.end("r", 3, "{}").unwrap();
        assert_eq!(database.unfinished("k").unwrap(), None);
        assert_eq!(database.report(None).unwrap().unwrap(), "{}");
    }

    #[test]
    fn a_query_never_writes() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("dormouse.db")).unwrap();
        let error = database.query("delete from runs", &[]).unwrap_err();
        assert_eq!(error.kind(), dormouse_block::ErrorKind::Denied);
        let (columns, rows) = database
            .query("select 1 as one, null as none", &[])
            .unwrap();
        assert_eq!(
            (columns, rows),
            (
                vec!["one".into(), "none".into()],
                vec![vec!["1".into(), String::new()]]
            )
        );
    }
}
