//! A run: a library taken through all stages, in parallel, resumable.

mod bundling;
mod stages;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dormouse_block::{Digest, Error, Gap, Identity, Locator, Meter, Result};
use dormouse_disk::{Gate, LibraryGate, PointInfo, UnitCache};
use dormouse_evidence::{RunReport, Signer};
use dormouse_policy::Scope;
use jiff::Timestamp;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::de::DeserializeOwned;

use crate::change::Changer;
use crate::work::{UNIT_ROOM, Work, contained, ends_the_run};
use crate::{
    Found, Keys, Machine, MachineOptions, Observer, OpenMachine, Pipeline, RunRow, StageName,
    Standard, StandardOptions, State, discover,
};

/// What a run is told.
pub struct RunOptions {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The folder of images.
    pub library: PathBuf,
    /// Where results go.
    pub output: PathBuf,
    /// Repositories in the place of the pipeline's.
    pub repositories: Vec<PathBuf>,
    /// A keyring in the place of the pipeline's.
    pub keyring: Option<PathBuf>,
    /// A baseline in the place of the pipeline's.
    pub baseline: Option<String>,
    /// What is asked for in the place of what the baseline demands; nothing asks for that.
    pub only: BTreeSet<Scope>,
    /// Files of vendors' advisories, or folders of them.
    pub feeds: Vec<PathBuf>,
    /// The file that says who the machines are and when they may be changed.
    pub estate: Option<PathBuf>,
    /// Folders that backing files may come from, beside the library and the pipeline's.
    pub allow_backing: Vec<PathBuf>,
    /// Keys that may unlock encrypted volumes.
    pub keys: Keys,
    /// The instant to judge at; an unfinished run's own, else `now`, unless said.
    pub as_of: Option<Timestamp>,
    /// The instant at which the run was started.
    pub now: Timestamp,
    /// Restore points worked on at a time; as many as there are processors unless said.
    pub jobs: Option<usize>,
    /// Name and version of the program.
    pub tool: String,
    /// Set when the caller asks to stop.
    pub stop: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    /// The report, which also stands in the results.
    pub report: RunReport,
    /// The report's files, by format.
    pub files: BTreeMap<String, PathBuf>,
    /// The bundle of its catch-up plans, where the pipeline wanted one; of a folder, its signed manifest.
    pub bundle: Option<PathBuf>,
    /// Whether everything that may hold packages was read and judged.
    pub complete: bool,
    /// Whether every point passes the baseline's gate, by the verdict after patching where it was patched.
    pub passes: bool,
}

/// A restore point on its way through the stages: what is kept in memory of it is small.
struct Point {
    machine: usize,
    info: PointInfo,
    at: Locator,
    files: Vec<Identity>,
    inspection: Option<Digest>,
    assessment: Option<Digest>,
    decision: Option<Digest>,
    done: Option<Digest>,
    verified: Option<Digest>,
    attestation: Option<Digest>,
    failures: Vec<Gap>,
}

impl Point {
    fn new(machine: usize, name: &str, info: &PointInfo, files: &[Identity]) -> Self {
        Self {
            machine,
            info: info.clone(),
            at: Locator::machine(name).point(info.id.clone()),
            files: files.to_vec(),
            inspection: None,
            assessment: None,
            decision: None,
            done: None,
            verified: None,
            attestation: None,
            failures: Vec::new(),
        }
    }
}

struct Run<'a> {
    options: &'a RunOptions,
    work: Work<'a>,
    standard: Standard,
    signer: Option<&'a (dyn Signer + Sync)>,
    gate: Arc<dyn Gate>,
    machines: Vec<FoundMachine>,
    gaps: Vec<Gap>,
}

/// A machine of the library, opened or not.
struct FoundMachine {
    found: Found,
    fact: Option<Machine>,
    gaps: Vec<Gap>,
}

/// Takes a library through a pipeline. Killed at any moment and run again with the same state, pipeline, library and
/// output, it goes on and ends in the same results.
///
/// # Errors
/// A library, standard or state that cannot be used, results that cannot be written, and being asked to stop. What is
/// wrong with one machine is a gap in the report.
pub fn run(
    options: &RunOptions,
    state: &State,
    signer: Option<&(dyn Signer + Sync)>,
    observer: &dyn Observer,
) -> Result<RunOutcome> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.jobs.unwrap_or(0))
        .build()
        .map_err(|error| Error::io("cannot start threads", std::io::Error::other(error)))?;
    pool.install(|| run_in_pool(options, state, signer, observer))
}

fn run_in_pool(
    options: &RunOptions,
    state: &State,
    signer: Option<&(dyn Signer + Sync)>,
    observer: &dyn Observer,
) -> Result<RunOutcome> {
    let row = begin(options, state)?;
    let as_of: Timestamp = row.as_of.parse().map_err(|error| {
        Error::corrupt("the state holds a run with a bad instant").because(error)
    })?;
    let pipeline = &options.pipeline;
    let mut run = Run {
        options,
        work: Work {
            state,
            observer,
            tool: &options.tool,
            stop: &options.stop,
            units: UnitCache::with_room(UNIT_ROOM),
        },
        standard: standard(options, state, as_of)?,
        signer,
        gate: Arc::new(LibraryGate::new(allowed_folders(options))?),
        machines: Vec::new(),
        gaps: Vec::new(),
    };
    let mut points = run.discover()?;
    run.inspect(&mut points)?;
    if pipeline.runs(StageName::Evaluate) {
        run.evaluate(&mut points)?;
    }
    if pipeline.runs(StageName::Plan) {
        run.note_machines(&points)?;
        let changer = Changer::new(&run.work, &run.standard, options)?;
        run.plan(&changer, &mut points)?;
        if pipeline.runs(StageName::Inject) {
            run.inject(&changer, &mut points)?;
        }
        if pipeline.runs(StageName::Verify) {
            run.verify(&changer, &mut points)?;
        }
    }
    if pipeline.runs(StageName::Attest) {
        run.attest(&mut points)?;
    }
    let bundle = if pipeline.runs(StageName::Attest) {
        run.bundle_or_gap(&points)?
    } else {
        None
    };
    let mut outcome = run.report(&row, &points)?;
    outcome.bundle = bundle.map(|bundle| options.output.join(bundle.file.path));
    Ok(outcome)
}

fn standard(options: &RunOptions, state: &State, as_of: Timestamp) -> Result<Standard> {
    let pipeline = &options.pipeline;
    let relative = |path: &PathBuf| library_folder(&options.library).join(path);
    Standard::load(&StandardOptions {
        baseline: options
            .baseline
            .clone()
            .unwrap_or_else(|| pipeline.baseline.clone()),
        repositories: if options.repositories.is_empty() {
            pipeline.repositories.iter().map(relative).collect()
        } else {
            options.repositories.clone()
        },
        keyring: options
            .keyring
            .clone()
            .or_else(|| pipeline.keyring.as_ref().map(relative)),
        only: options.only.clone(),
        feeds: options.feeds.clone(),
        cache: Some(state.index_folder()),
        estate: options.estate.clone(),
        histories: state.database.histories()?,
        taken: state.database.taken()?,
        as_of,
    })
}

fn allowed_folders(options: &RunOptions) -> Vec<PathBuf> {
    let library = library_folder(&options.library);
    let own = options
        .pipeline
        .allow_backing
        .iter()
        .map(|path| library.join(path));
    std::iter::once(library.clone())
        .chain(own)
        .chain(options.allow_backing.iter().cloned())
        .collect()
}

/// The folder that paths of a pipeline are relative to: the library, or the folder of the one image it is.
pub(crate) fn library_folder(library: &Path) -> PathBuf {
    if library.is_dir() {
        return library.to_owned();
    }
    match library.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The run to go on with, or a new one.
fn begin(options: &RunOptions, state: &State) -> Result<RunRow> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .unwrap_or_else(|_| path.to_owned())
            .to_string_lossy()
            .into_owned()
    };
    let asked = options.as_of.map(|as_of| as_of.to_string());
    let library = absolute(&options.library);
    let output = absolute(&options.output);
    let repositories: Vec<_> = options
        .repositories
        .iter()
        .map(|path| absolute(path))
        .collect();
    let key = Digest::of(
        serde_json::to_vec(&(
            options.pipeline.digest(),
            &library,
            &output,
            &asked,
            &options.baseline,
            repositories,
            &options.only,
            &options.feeds,
            &options.estate,
        ))
        .unwrap_or_default(),
    )
    .hex();
    let row = match state.database.unfinished(&key)? {
        Some(row) => row,
        None => {
            let as_of = asked.unwrap_or_else(|| options.now.to_string());
            let id = Digest::of(format!("{} {library} {as_of}", options.pipeline.digest())).hex();
            RunRow {
                run: id.get(..12).unwrap_or_default().to_owned(),
                pipeline: options.pipeline.name.clone(),
                library,
                output,
                key,
                as_of,
            }
        }
    };
    state.database.begin(&row)?;
    Ok(row)
}

impl Run<'_> {
    fn open(&self, found: &Found) -> Result<OpenMachine> {
        let limit = self.options.pipeline.limits.inspect_bytes;
        OpenMachine::open_found(
            found,
            &MachineOptions {
                format: None,
                gate: self.gate.clone(),
                meter: Meter::new(limit, self.options.stop.clone()),
                keys: self.options.keys.clone(),
                units: self.work.units.clone(),
            },
        )
    }

    /// The point's machine, opened without a budget: for what must read all of it.
    fn open_whole(&self, point: &Point) -> Result<OpenMachine> {
        let found = self.found(point)?;
        OpenMachine::open_found(
            found,
            &MachineOptions {
                format: None,
                gate: self.gate.clone(),
                meter: Meter::new(u64::MAX, self.options.stop.clone()),
                keys: self.options.keys.clone(),
                units: self.work.units.clone(),
            },
        )
    }

    fn found(&self, point: &Point) -> Result<&Found> {
        self.machines
            .get(point.machine)
            .map(|machine| &machine.found)
            .ok_or_else(|| Error::corrupt("a point without its machine"))
    }

    fn load<T: DeserializeOwned>(&self, key: Option<Digest>) -> Result<T> {
        let key = key.ok_or_else(|| Error::corrupt("a stage's input is missing"))?;
        self.work.load(key)
    }

    fn discover(&mut self) -> Result<Vec<Point>> {
        let library = discover(&self.options.library)?;
        self.gaps = library.gaps;
        let observer = self.work.observer;
        observer.stage(StageName::Discover, count(library.machines.len()));
        let this = &*self;
        let opened = library
            .machines
            .into_par_iter()
            .map(|found| {
                this.work.check()?;
                let at = Locator::machine(found.name.clone());
                let opened = contained(|| this.open(&found));
                observer.done(StageName::Discover, &at, false);
                match opened {
                    Ok(machine) => {
                        let files = machine.files().iter().map(|file| file.identity.clone());
                        let files: Vec<Identity> = files.collect();
                        let fact = machine.fact(Some(&this.options.library));
                        Ok((found, Ok((fact, files))))
                    }
                    Err(error) if ends_the_run(&error) => Err(error),
                    Err(error) => {
                        observer.note(&at, &error.with_causes());
                        Ok((found, Err(Gap::from_error(&error, &at))))
                    }
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let mut points = Vec::new();
        for (index, (found, opened)) in opened.into_iter().enumerate() {
            let (fact, files, gaps) = match opened {
                Ok((fact, files)) => (Some(fact), files, Vec::new()),
                Err(gap) => (None, Vec::new(), vec![gap]),
            };
            for info in fact.iter().flat_map(|fact| &fact.points) {
                points.push(Point::new(index, &found.name, info, &files));
            }
            self.machines.push(FoundMachine { found, fact, gaps });
        }
        Ok(points)
    }
}

fn count(things: usize) -> u64 {
    u64::try_from(things).unwrap_or(u64::MAX)
}
