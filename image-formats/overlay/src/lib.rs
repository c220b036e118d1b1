//! The only code that changes guest bytes: copy-on-write overlays and filesystem editors.
