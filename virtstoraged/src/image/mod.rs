//! Images: what a header says, and how files with images are made.

pub mod luks;
pub mod mark;
pub mod qemu_img;
pub mod raw;

pub use virt_image as probe;
