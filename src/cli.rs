//! The command line: every command and flag, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::exit::Remap;

/// Patches sleeping virtual machines before they wake.
///
/// Dormouse opens disk images, snapshots and suspended machines without booting or mounting them, lists their packages,
/// judges them against a baseline, injects updates offline into new overlays, and plans the waking of what must not be
/// touched. It never writes into an image it was given and never opens the network.
///
/// Exit codes: 0 compliant or done, 1 findings, 2 usage, 3 incomplete coverage, 4 tool error, 130 interrupted.
#[derive(Debug, Parser)]
#[command(
    name = "dormouse",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Flags that mean the same everywhere.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Flags that mean the same everywhere.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Output format; a table on a terminal and json elsewhere, unless said
    #[arg(
        long,
        global = true,
        value_enum,
        env = "DORMOUSE_FORMAT",
        help_heading = "Output"
    )]
    pub(crate) format: Option<Format>,
    /// Write the answer (for `run`: its results folder; for `patch`: the new image) here
    #[arg(
        short,
        long,
        global = true,
        value_name = "PATH",
        help_heading = "Output"
    )]
    pub(crate) output: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
    /// Draw no progress bars
    #[arg(
        long,
        global = true,
        env = "DORMOUSE_NO_PROGRESS",
        help_heading = "Output"
    )]
    pub(crate) no_progress: bool,
    /// Colours in tables (NO_COLOR and CLICOLOR_FORCE are honoured)
    #[arg(
        long,
        global = true,
        value_enum,
        env = "DORMOUSE_COLOR",
        help_heading = "Output"
    )]
    pub(crate) color: Option<Color>,
    /// The container format of the images, when their names or headers do not settle it
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "DORMOUSE_IMAGE_FORMAT",
        help_heading = "Input"
    )]
    pub(crate) image_format: Option<String>,
    /// A restore point by name or id; `active` unless said; `all` where a command takes several
    #[arg(long, global = true, value_name = "POINT", help_heading = "Input")]
    pub(crate) point: Option<String>,
    /// A further folder that backing files may come from
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "DORMOUSE_ALLOW_BACKING",
        value_delimiter = ':',
        help_heading = "Input"
    )]
    pub(crate) allow_backing: Vec<PathBuf>,
    /// A file that holds a key or a passphrase of encrypted images and volumes; a newline at a passphrase's end does not matter
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DORMOUSE_LUKS_KEY",
        value_delimiter = ':',
        help_heading = "Input"
    )]
    pub(crate) luks_key: Vec<PathBuf>,
    /// The baseline to judge by: a shipped one's name, or a file
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME|FILE",
        env = "DORMOUSE_BASELINE",
        help_heading = "Judging"
    )]
    pub(crate) baseline: Option<String>,
    /// A local package repository: a mirror's folder, whole or partial, a flat one, or a folder of packages whose index the
    /// baseline trusts by its digest
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "DORMOUSE_REPO",
        value_delimiter = ':',
        help_heading = "Judging"
    )]
    pub(crate) repo: Vec<PathBuf>,
    /// The OpenPGP keys that repositories must be signed with
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DORMOUSE_KEYRING",
        help_heading = "Judging"
    )]
    pub(crate) keyring: Option<PathBuf>,
    /// What is judged and upgraded, instead of all that the baseline demands: `all` that has a newer version, what the
    /// suites for `security` updates have, what mends a CVE, or a binary or source PACKAGE, with what each needs
    #[arg(
        long,
        global = true,
        value_name = "security|all|CVE|PACKAGE",
        env = "DORMOUSE_ONLY",
        value_delimiter = ',',
        help_heading = "Judging"
    )]
    pub(crate) only: Vec<dormouse_policy::Scope>,
    /// A local advisory feed, or a folder of them: the Debian tracker's JSON, its DSA and DLA lists, CISA's catalogue of
    /// exploited vulnerabilities, EPSS scores
    #[arg(
        long,
        global = true,
        value_name = "FILE|DIR",
        env = "DORMOUSE_FEED",
        value_delimiter = ':',
        help_heading = "Judging"
    )]
    pub(crate) feed: Vec<PathBuf>,
    /// A file that says who the machines are (category, tenant, labels), when they may be changed and in which order
    /// (`dormouse estate` prints one to start from)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DORMOUSE_ESTATE",
        help_heading = "Judging"
    )]
    pub(crate) estate: Option<PathBuf>,
    /// Judge as of this instant (RFC 3339); the start of the run unless said
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        env = "DORMOUSE_AS_OF",
        help_heading = "Judging"
    )]
    pub(crate) as_of: Option<Timestamp>,
    /// The best verdict that still fails: verdicts from it downwards end with exit code 1
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "VERDICT",
        env = "DORMOUSE_FAIL_ON",
        help_heading = "Judging"
    )]
    pub(crate) fail_on: Option<FailOn>,
    /// The state folder (XDG state folder unless said)
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "DORMOUSE_STATE",
        help_heading = "Running"
    )]
    pub(crate) state: Option<PathBuf>,
    /// Restore points worked on at a time; as many as there are processors unless said
    #[arg(
        long,
        global = true,
        value_name = "N",
        env = "DORMOUSE_JOBS",
        help_heading = "Running"
    )]
    pub(crate) jobs: Option<usize>,
    /// The key to sign with, or to verify with
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DORMOUSE_KEY",
        help_heading = "Running"
    )]
    pub(crate) key: Option<PathBuf>,
    /// Another number for an exit code: findings, usage, incomplete, tool-error, interrupted
    #[arg(long, global = true, value_name = "KIND=N", help_heading = "Running")]
    pub(crate) exit_code: Vec<Remap>,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
    /// A page; for reports.
    Html,
    /// A CycloneDX 1.6 bill of materials; for inventories.
    Cyclonedx,
    /// An SPDX 2.3 bill of materials; for inventories.
    Spdx,
    /// A POSIX script for the guest; for catch-up plans.
    Script,
    /// User data of cloud-init; for catch-up plans.
    CloudInit,
    /// An Ansible playbook; for catch-up plans.
    Ansible,
}

impl Format {
    /// Whether it is a bill of materials, which only an inventory can be written as.
    pub(crate) fn is_bill(self) -> bool {
        matches!(self, Self::Cyclonedx | Self::Spdx)
    }

    /// Whether it is a form that only a catch-up plan can be written in.
    pub(crate) fn is_waking(self) -> bool {
        matches!(self, Self::Script | Self::CloudInit | Self::Ansible)
    }
}

/// When tables are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The best verdict that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailOn {
    /// Even first-boot work that is outstanding fails.
    Pending,
    /// Only a verdict of non-compliance fails (the default).
    NonCompliant,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what an image is: format, chain, restore points, power state, volumes, filesystems, system
    Inspect(Images),
    /// List a folder, or a file, of a guest
    Ls(Paths),
    /// Write a guest's files to standard output
    Cat(Paths),
    /// Copy files and folders out of a guest
    Cp(Copy),
    /// List the installed packages of restore points, with coverage
    Inventory(Inventory),
    /// Judge restore points by a baseline: the gate of a build or a restore
    Check(Images),
    /// Say what would be done; touch nothing
    Plan(Images),
    /// Inject updates offline into a new image
    Patch(Patch),
    /// Plan the waking of restored or resumed machines, with a script and a bundle for them
    CatchUp(CatchUp),
    /// Take a whole library through a pipeline, in parallel; run again to go on after an interruption
    Run(Run),
    /// Write the report of a run again
    Report(Report),
    /// Check signatures and digests of evidence
    Verify(Verify),
    /// Ask the state
    Query(Query),
    /// Verify local package repositories
    Feed(Feed),
    /// Make and show signing keys
    Key(Key),
    /// Print a commented baseline to start from; list and print those shipped
    Baseline(Baseline),
    /// Print a commented estate to start from; say when machines may be changed
    Estate(Estate),
    /// Print completions for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Baselines.
#[derive(Debug, Args)]
pub(crate) struct Baseline {
    /// What to do; a commented baseline is printed unless said
    #[command(subcommand)]
    pub(crate) action: Option<BaselineAction>,
}

/// What to do with baselines.
#[derive(Debug, Subcommand)]
pub(crate) enum BaselineAction {
    /// List those shipped
    List,
    /// Print one of those shipped
    Show {
        /// Its name
        name: String,
    },
}

/// Estates.
#[derive(Debug, Args)]
pub(crate) struct Estate {
    /// What to do; a commented estate is printed unless said
    #[command(subcommand)]
    pub(crate) action: Option<EstateAction>,
}

/// What to do with estates.
#[derive(Debug, Subcommand)]
pub(crate) enum EstateAction {
    /// Say what the estate (--estate) says of machines: labels, time zone, the next times in which they may be changed
    Show {
        /// Machines' names
        #[arg(required = true)]
        machines: Vec<String>,
        /// How many times to say
        #[arg(long, default_value_t = 3)]
        slots: u8,
    },
}

/// Images to look at.
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Disk images, descriptions of machines, saved states, or folders of them
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
}

/// What to list, of which images.
#[derive(Debug, Args)]
pub(crate) struct Inventory {
    /// Disk images, descriptions of machines, saved states, or folders of them
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// Families of packages to look for, separated by commas
    ///
    /// dpkg, rpm, apk, pacman, windows, windows-application, snap and flatpak are a look at known files, and make up `default`;
    /// python, npm, gem, go and cargo walk over all folders of the guest. `all` is all of them.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "default"
    )]
    pub(crate) catalogers: Vec<String>,
}

/// What to wake.
#[derive(Debug, Args)]
pub(crate) struct CatchUp {
    /// Disk images, descriptions of machines, saved states, or folders of them
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
    /// Write a signed bundle of the plans and all package files that they need, as an ISO 9660 image with the label
    /// DORMOUSE, or as a folder
    #[arg(long, value_name = "FILE.iso|DIR")]
    pub(crate) bundle: Option<PathBuf>,
}

/// Paths inside images.
#[derive(Debug, Args)]
pub(crate) struct Paths {
    /// An image, a colon, and an absolute path in its guest
    #[arg(required = true, value_name = "IMAGE:PATH")]
    pub(crate) paths: Vec<std::ffi::OsString>,
}

/// What to copy out.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// An image, a colon, and an absolute path in its guest
    #[arg(value_name = "IMAGE:PATH")]
    pub(crate) from: std::ffi::OsString,
    /// The host file or folder to make; it must not be there yet
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
}

/// What to patch.
#[derive(Debug, Args)]
pub(crate) struct Patch {
    /// A disk image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,
    /// Write a whole image that needs no backing file, in the place of an overlay
    #[arg(long, conflicts_with = "output_format")]
    pub(crate) standalone: bool,
    /// Put the verified package files into the image and leave all of them to its first boot, where its own dpkg installs them
    #[arg(long)]
    pub(crate) at_first_boot: bool,
    /// What to write: overlay (the default), qcow2, qcow2-zstd, raw, vmdk, vhd, vhd-fixed, vhdx, or the base's own
    /// format (base); all but an overlay are whole images
    #[arg(long, value_name = "FORMAT")]
    pub(crate) output_format: Option<dormouse_engine::OutputFormat>,
}

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A pipeline definition: a shipped one's name, or a file
    pub(crate) pipeline: PathBuf,
    /// The folder of images
    pub(crate) library: PathBuf,
}

/// Which report.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The run's id; the newest run unless said
    pub(crate) run: Option<String>,
}

/// What to verify.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Evidence files
    #[arg(required = true)]
    pub(crate) evidence: Vec<PathBuf>,
    /// The library that `source:`, `point:` and `memory:` subjects are in; without it they are not compared
    #[arg(long, value_name = "DIR")]
    pub(crate) library: Option<PathBuf>,
    /// The results folder that `output:` subjects are in; the folder above the evidence unless said
    #[arg(long, value_name = "DIR")]
    pub(crate) results: Option<PathBuf>,
}

/// A question.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("question").required(true)))]
pub(crate) struct Query {
    /// Restore points that have this package
    #[arg(long, group = "question", value_name = "NAME")]
    pub(crate) package: Option<String>,
    /// Restore points with findings that mend this CVE
    #[arg(long, group = "question", value_name = "CVE")]
    pub(crate) cve: Option<String>,
    /// Restore points with findings for this package
    #[arg(long, group = "question", value_name = "NAME")]
    pub(crate) finding: Option<String>,
    /// Restore points with this verdict
    #[arg(long, group = "question", value_name = "VERDICT")]
    pub(crate) verdict: Option<String>,
    /// An SQL query that only reads
    #[arg(long, group = "question", value_name = "SELECT")]
    pub(crate) sql: Option<String>,
}

/// Feeds.
#[derive(Debug, Args)]
pub(crate) struct Feed {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) action: FeedAction,
}

/// What to do with feeds.
#[derive(Debug, Subcommand)]
pub(crate) enum FeedAction {
    /// Check the signatures, digests and dates of the repositories given with --repo, and read the feeds given with --feed
    Verify,
    /// List their suites, and the feeds
    List,
}

/// Keys.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) action: KeyAction,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyAction {
    /// Make a signing key: FILE, and FILE.pub beside it
    Generate {
        /// Where; it must not be there yet
        file: PathBuf,
    },
    /// Show a key's id and its public half
    Show {
        /// A private or public key
        file: PathBuf,
    },
}
