//! Pacemaker resource agents of the provider `storhaug`, and the framework
//! that they share.
