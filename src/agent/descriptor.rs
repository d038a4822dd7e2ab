//! A descriptor that the agent was started with, as a file that can be read again and again.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use zeroize::Zeroizing;

/// Takes a descriptor by its number. A regular file is kept open. A pipe or a socket is read to its end, at most one byte more
/// than `bytes_max`, and moved to an anonymous, sealed file of the kernel's: no file system has it, no other process can open
/// it, and it is not in this process's memory.
///
/// # Errors
/// The system's, and for a descriptor that is not open or can be read by nobody twice.
pub fn take(number: u32, bytes_max: u64) -> io::Result<File> {
    let fd = duplicate(number)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    match kind {
        FileType::RegularFile => Ok(File::from(fd)),
        FileType::Fifo | FileType::Socket => moved(File::from(fd), bytes_max),
        FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Directory
        | FileType::Symlink
        | FileType::Unknown => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a device or a directory; hand over a file, a pipe or a socket",
        )),
    }
}

/// A duplicate of our own, which no child inherits. The number stays open: it is not ours to close.
fn duplicate(number: u32) -> io::Result<OwnedFd> {
    let at = format!("/proc/self/fd/{number}");
    let not_open = || io::Error::new(io::ErrorKind::NotFound, "it is not open");
    // Asked before anything is opened here, which might get that very number.
    std::fs::symlink_metadata(&at).map_err(|_no_such| not_open())?;
    let raw = i32::try_from(number).map_err(|_too_large| not_open())?;
    let this = rustix::process::getpid();
    let taken = rustix::process::pidfd_open(this, PidfdFlags::empty())
        .and_then(|own| rustix::process::pidfd_getfd(own, raw, PidfdGetfdFlags::empty()));
    match taken {
        Ok(fd) => Ok(fd),
        // An old kernel, or a sandbox: files and pipes can be opened once more.
        Err(Errno::NOSYS | Errno::PERM) => Ok(OwnedFd::from(File::open(&at)?)),
        Err(errno) => Err(errno.into()),
    }
}

fn moved(source: File, bytes_max: u64) -> io::Result<File> {
    let length = bytes_max.saturating_add(1);
    let room = usize::try_from(length)
        .unwrap_or_default()
        .saturating_mul(2);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    source.take(length).read_to_end(&mut bytes)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut kept = File::from(rustix::fs::memfd_create("pin", flags)?);
    kept.write_all(&bytes)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&kept, seals)?;
    Ok(kept)
}
