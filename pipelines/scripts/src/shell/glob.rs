//! Pathname expansion over the guest's tree.

use dormouse_filesystem::Follow;

use super::Shell;
use super::fields::Field;
use super::pattern::Pattern;
use crate::stop::Run;

impl Shell<'_> {
    /// The files that a pattern of glob(7) matches, in byte order; itself when there are none.
    pub(crate) fn glob_plain(&mut self, pattern: &[u8]) -> Run<Vec<Vec<u8>>> {
        let field = Field(pattern.iter().map(|&byte| (byte, false)).collect());
        self.glob(&field)
    }

    /// The files that `field` matches, in byte order; itself when there are none.
    pub(super) fn glob(&mut self, field: &Field) -> Run<Vec<Vec<u8>>> {
        let mut found: Vec<Vec<u8>> = vec![Vec::new()];
        let mut rest = field.0.as_slice();
        if rest.first().is_some_and(|&(byte, _)| byte == b'/') {
            found = vec![b"/".to_vec()];
        }
        while !rest.is_empty() {
            let slashes = rest.iter().take_while(|&&(byte, _)| byte == b'/').count();
            if slashes > 0 {
                // A trailing slash asks for a directory.
                rest = rest.get(slashes..).unwrap_or_default();
                let mut kept = Vec::new();
                for mut path in found {
                    if path != b"/" {
                        path.push(b'/');
                    }
                    if !rest.is_empty() || self.files.is_directory(&path)? {
                        kept.push(path);
                    }
                }
                found = kept;
                continue;
            }
            let length = rest
                .iter()
                .position(|&(byte, _)| byte == b'/')
                .unwrap_or(rest.len());
            let component = rest.get(..length).unwrap_or_default();
            rest = rest.get(length..).unwrap_or_default();
            let pattern = Pattern::new(component);
            let mut next = Vec::new();
            for base in &found {
                match pattern.literal() {
                    Some(name) => {
                        let path = [base.as_slice(), &name].concat();
                        if !rest.is_empty() || self.files.exists(&path, Follow::No)? {
                            next.push(path);
                        }
                    }
                    None => {
                        let folder: &[u8] = if base.is_empty() { b"." } else { base };
                        let Ok(mut names) = self.files.list(folder)? else {
                            continue;
                        };
                        names.insert(b".".to_vec());
                        names.insert(b"..".to_vec());
                        for name in &names {
                            self.files.budget.step(1)?;
                            if (!name.starts_with(b".") || pattern.begins_with_dot())
                                && pattern.matches(name)
                            {
                                next.push([base.as_slice(), name].concat());
                            }
                        }
                    }
                }
            }
            found = next;
        }
        found.retain(|path| !path.is_empty());
        if found.is_empty() {
            return Ok(vec![field.bytes()]);
        }
        found.sort();
        Ok(found)
    }
}
