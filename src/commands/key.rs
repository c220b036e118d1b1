//! `dormouse key`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dormouse_engine::host;
use dormouse_evidence::{PublicKey, SigningKey};
use serde::Serialize;

use crate::answer::Answer;
use crate::cli::{Key, KeyAction};
use crate::exit::Exit;
use crate::settings::Settings;

const MAX_KEY: u64 = 16 << 10;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    schema: &'static str,
    key_id: String,
    public: String,
}

/// Makes or shows a key.
///
/// # Errors
/// A file that is there already, or is no key.
pub(crate) fn run(arguments: &Key, settings: &Settings) -> anyhow::Result<Exit> {
    let public = match &arguments.action {
        KeyAction::Generate { file } => generate(file)?,
        KeyAction::Show { file } => read_public(file)?,
    };
    let answer = Answer::new(settings);
    if answer.is_table() {
        answer.text(&format!("key id {}\n{}", public.key_id(), public.to_pem()?))?;
    } else {
        answer.json(&Document {
            schema: "dormouse/key/v1",
            key_id: public.key_id(),
            public: public.to_pem()?,
        })?;
    }
    Ok(Exit::Done)
}

fn generate(file: &Path) -> anyhow::Result<PublicKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| anyhow::anyhow!("no random bytes are to be had: {error}"))?;
    let key = SigningKey::from_seed(seed);
    let pem = key.to_pem()?;
    let mut private = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot make {}", file.display()))?;
    private.write_all(pem.as_bytes())?;
    private.sync_all()?;
    host::publish(&public_path(file), key.public().to_pem()?.as_bytes())?;
    Ok(key.public())
}

fn public_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// The signing key in `file`.
///
/// # Errors
/// When it is no Ed25519 private key.
pub(crate) fn read_private(file: &Path) -> anyhow::Result<SigningKey> {
    let pem = host::read_text(file, MAX_KEY)?;
    SigningKey::from_pem(&pem).with_context(|| {
        format!(
            "{} is no signing key; `dormouse key generate FILE` makes one",
            file.display()
        )
    })
}

/// The public key in `file`, or the public half of the private key there.
///
/// # Errors
/// When it is neither.
pub(crate) fn read_public(file: &Path) -> anyhow::Result<PublicKey> {
    let pem = host::read_text(file, MAX_KEY)?;
    if pem.contains("PRIVATE KEY") {
        return Ok(SigningKey::from_pem(&pem)?.public());
    }
    PublicKey::from_pem(&pem).with_context(|| format!("{} is no public key", file.display()))
}
