//! Relationships between binary packages (Debian Policy 7).

use std::cmp::Ordering;
use std::fmt;

use dormouse_block::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{Version, is_package_name};

/// Relations of one field, and alternatives of one relation. Real fields have fewer than 1,000 relations.
const MAX_RELATIONS: usize = 20_000;

/// A relationship field of a binary package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelationField {
    /// Must be configured before this is unpacked.
    PreDepends,
    /// Must be configured before this is configured.
    Depends,
    /// Belongs to all but unusual installations.
    Recommends,
    /// May be of use.
    Suggests,
    /// Is made more useful by this.
    Enhances,
    /// May not be configured together with this.
    Breaks,
    /// May not be unpacked together with this.
    Conflicts,
    /// Names of which this is an implementation.
    Provides,
    /// Files of these may be overwritten.
    Replaces,
}

impl RelationField {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::PreDepends,
        Self::Depends,
        Self::Recommends,
        Self::Suggests,
        Self::Enhances,
        Self::Breaks,
        Self::Conflicts,
        Self::Provides,
        Self::Replaces,
    ];

    /// The field's name in control files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreDepends => "Pre-Depends",
            Self::Depends => "Depends",
            Self::Recommends => "Recommends",
            Self::Suggests => "Suggests",
            Self::Enhances => "Enhances",
            Self::Breaks => "Breaks",
            Self::Conflicts => "Conflicts",
            Self::Provides => "Provides",
            Self::Replaces => "Replaces",
        }
    }

    /// The field of that name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|field| field.as_str().eq_ignore_ascii_case(name))
    }
}

/// How two versions must stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// `<<`, strictly earlier.
    Earlier,
    /// `<=`.
    EarlierOrEqual,
    /// `=`.
    Equal,
    /// `>=`.
    LaterOrEqual,
    /// `>>`, strictly later.
    Later,
}

impl Operator {
    /// As control files write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }

    /// Whether a version that compares so with the named one satisfies it.
    #[must_use]
    pub fn admits(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

/// A bound on a version, such as `>= 2.36`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Constraint {
    /// How.
    pub operator: Operator,
    /// Against what.
    pub version: Version,
}

impl Constraint {
    /// Whether `version` is within the bound.
    #[must_use]
    pub fn admits(&self, version: &Version) -> bool {
        self.operator.admits(version.cmp(&self.version))
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operator.as_str(), self.version)
    }
}

/// What follows a name and a colon: of which architecture the other package may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Qualifier {
    /// `:any`, satisfied by `Multi-Arch: allowed` of any architecture.
    Any,
    /// `:native`, the machine's own.
    Native,
    /// A named one.
    Architecture(String),
}

/// One package that would do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Alternative {
    /// Its name, real or virtual.
    pub name: String,
    /// Its architecture, where one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<Qualifier>,
    /// The versions that do, where they are bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
}

impl fmt::Display for Alternative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.qualifier {
            Some(Qualifier::Any) => f.write_str(":any")?,
            Some(Qualifier::Native) => f.write_str(":native")?,
            Some(Qualifier::Architecture(name)) => write!(f, ":{name}")?,
            None => {}
        }
        match &self.constraint {
            Some(constraint) => write!(f, " ({constraint})"),
            None => Ok(()),
        }
    }
}

/// One relation: any of its alternatives satisfies it. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Relation(Vec<Alternative>);

impl Relation {
    /// The alternatives, the preferred one first.
    #[must_use]
    pub fn alternatives(&self) -> &[Alternative] {
        &self.0
    }

    /// Reads the value of a relationship field of a binary package: relations with commas between them.
    ///
    /// `<` and `>` are read as dpkg reads them, as `<=` and `>=`.
    ///
    /// # Errors
    /// `Corrupt` for anything that Policy 7.1 does not allow in a binary package, `Limit` for more than 20,000
    /// relations or alternatives.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for relation in text.split(',') {
            if relation.trim().is_empty() {
                continue;
            }
            if all.len() >= MAX_RELATIONS {
                return Err(Error::limit("more than 20000 relations in one field"));
            }
            let alternatives = relation
                .split('|')
                .take(MAX_RELATIONS)
                .map(|text| {
                    alternative(text).ok_or_else(|| {
                        let excerpt: String = text.trim().chars().take(80).collect();
                        Error::corrupt(format!("no relation to a package: {excerpt:?}"))
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            all.push(Self(alternatives));
        }
        Ok(all)
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, alternative) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            alternative.fmt(f)?;
        }
        Ok(())
    }
}

fn alternative(text: &str) -> Option<Alternative> {
    let text = text.trim();
    let (package, constraint) = match text.split_once('(') {
        Some((package, bound)) => (
            package.trim_end(),
            Some(self::constraint(bound.strip_suffix(')')?)?),
        ),
        None => (text, None),
    };
    let (name, qualifier) = match package.split_once(':') {
        Some((name, "any")) => (name, Some(Qualifier::Any)),
        Some((name, "native")) => (name, Some(Qualifier::Native)),
        Some((name, architecture)) => {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if architecture.is_empty() || !architecture.bytes().all(plain) {
                return None;
            }
            (name, Some(Qualifier::Architecture(architecture.into())))
        }
        None => (package, None),
    };
    is_package_name(name).then(|| Alternative {
        name: name.into(),
        qualifier,
        constraint,
    })
}

fn constraint(text: &str) -> Option<Constraint> {
    let text = text.trim();
    let end = text
        .find(|c| !matches!(c, '<' | '=' | '>'))
        .unwrap_or(text.len());
    let (operator, version) = text.split_at_checked(end)?;
    let operator = match operator {
        "<<" => Operator::Earlier,
        "<=" | "<" => Operator::EarlierOrEqual,
        // dpkg takes a bare version as an exact one.
        "=" | "" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => return None,
    };
    let version = Version::parse(version).ok()?;
    Some(Constraint { operator, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_and_write_again() {
        let text = "libc6 (>= 2.36), debconf (>= 0.5) | debconf-2.0, python3:any, perl:native (<< 6), a:i386 (= 1:2-3)";
        let relations = Relation::parse_all(text).unwrap();
        assert_eq!(relations.len(), 5);
        assert_eq!(relations[1].alternatives().len(), 2);
        assert_eq!(
            relations[2].alternatives()[0].qualifier,
            Some(Qualifier::Any)
        );
        let again: Vec<_> = relations.iter().map(ToString::to_string).collect();
        assert_eq!(again.join(", "), text);
        let json = serde_json::to_string(&relations).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<Relation>>(&json).unwrap(),
            relations
        );
    }

    #[test]
    fn spellings_of_old_files_are_read_as_dpkg_reads_them() {
        let relations = Relation::parse_all("a(<1), b (> 2),\n c( >=3 ), ,d (4)").unwrap();
        let text: Vec<_> = relations.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["a (<= 1)", "b (>= 2)", "c (>= 3)", "d (= 4)"]);
    }

    #[test]
    fn bounds_admit_what_they_say() {
        let constraint = |text: &str| {
            Relation::parse_all(&format!("a ({text})")).unwrap()[0].alternatives()[0]
                .constraint
                .clone()
                .unwrap()
        };
        let one = Version::parse("1.0-1").unwrap();
        for (text, admitted) in [
            ("<< 1.0-1", false),
            ("<= 1.0-1", true),
            ("= 1.0-1", true),
            (">> 1.0-1~", true),
            (">= 1.0-1.1", false),
        ] {
            assert_eq!(constraint(text).admits(&one), admitted, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "a (",
            "a (>= )",
            "a (>= 1",
            "a b",
            "| a",
            "a |",
            "a (=> 1)",
            "a:",
            "a:x y",
            "A_b (1) c",
            "a [i386]",
            "()",
        ] {
            assert!(Relation::parse_all(text).is_err(), "{text:?}");
        }
        assert!(Relation::parse_all(&"a,".repeat(MAX_RELATIONS + 1)).is_err());
    }
}
