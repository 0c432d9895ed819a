//! Derives reading and writing of XML elements.
