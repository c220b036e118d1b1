//! Stages, scheduling, state and resume: the only parallel code.
