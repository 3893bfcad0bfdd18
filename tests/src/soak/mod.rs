//! What `make soak` judges by. Pure, but for the file of marks.

pub mod marks;
pub mod trend;
