//! Short torture; the program does the long one.

mod crashes;
mod machine;
mod sites;
