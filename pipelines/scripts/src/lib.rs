//! A bounded POSIX shell interpreter over a guest's tree, for maintainer scripts.
