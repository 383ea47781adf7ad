//! Small stories of a few tasks each that must end well in whatever order their steps come.

pub mod hand_over;
pub mod pins;
pub mod room;
pub mod watermark;
pub mod writer;
