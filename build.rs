//! Compiles the wire contract; needs no protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["lockstep/agent/v1/agent.proto"], ["proto"])?;
    let descriptors = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("agent.bin");
    std::fs::write(&descriptors, prost::Message::encode_to_vec(&files))?;
    tonic_prost_build::configure()
        .codec_path("crate::wire::codec::BoundedCodec")
        .compile_fds(files)?;
    Ok(())
}
