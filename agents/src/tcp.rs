//! A question and its answer over TCP, in pieces as they come, within a deadline.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{bail, ensure};

use crate::deadline::Deadline;

/// A connection whose every step ends by its deadline.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    deadline: Deadline,
}

impl Connection {
    /// # Errors
    /// Nobody listens there, or answers in time.
    pub fn open(address: SocketAddr, deadline: Deadline) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, deadline.timeout())?;
        Ok(Self { stream, deadline })
    }

    /// # Errors
    /// The connection has ended, or takes nothing in time.
    pub fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.stream
            .set_write_timeout(Some(self.deadline.timeout()))?;
        Ok(self.stream.write_all(message)?)
    }

    /// Fills `buffer`, however small the pieces that it comes in.
    ///
    /// # Errors
    /// The connection has ended, or the buffer is not filled in time.
    pub fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            self.stream
                .set_read_timeout(Some(self.deadline.timeout()))?;
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("no answer in time"),
                Err(error) => return Err(error.into()),
            }
            ensure!(
                filled == buffer.len() || !self.deadline.expired(),
                "no answer in time"
            );
        }
        Ok(())
    }
}
