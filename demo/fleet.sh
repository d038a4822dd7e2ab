# Makes and starts the demo's fleet; sourced by play.
#
# Leaves in $dir: softhsm2.conf, so-pin, pin, admin.token, ca.pem, api.url, logs/, run/*.pid.

keystores=(home frankfurt dallas tokyo)

make_tokens() {
    for name in "${keystores[@]}"; do
        softhsm-config/make-token --conf "$dir/softhsm2.conf" --tokens "$dir/tokens" --label "$name" \
            --pin-file "$dir/pin" --so-pin-file "$dir/so-pin" >"$dir/run/$name.serial"
    done
}

make_certificates() {
    lockstep ca init --dir "$dir/ca" >/dev/null
    cp "$dir/ca/ca.pem" "$dir/ca.pem"
    for name in "${keystores[@]}"; do
        lockstep ca issue --dir "$dir/ca" --role agent --name "$name" --out "$dir/$name" >/dev/null
    done
    lockstep ca issue --dir "$dir/ca" --role coordinator --name demo --out "$dir/coordinator" >/dev/null
}

variant_of() {
    if [ "$1" = home ]; then echo internal; else echo external; fi
}

configure_agent() {
    cat >"$dir/$1/agent.toml" <<TOML
name = "$1"
listen = "127.0.0.1:0"
state_dir = "state"
variant = "$(variant_of "$1")"

[token]
module = "$softhsm"
label = "$1"
serial = "$(<"$dir/run/$1.serial")"
pin_file = "$dir/pin"

[env]
SOFTHSM2_CONF = "$dir/softhsm2.conf"

[tls]
cert = "cert.pem"
key = "key.pem"
ca = "$dir/ca.pem"
TOML
}

# Each agent gets its identity, its token is bound to it, and it is told whom to trust about keys.
bind_agents() {
    local name other
    for name in "${keystores[@]}"; do
        configure_agent "$name"
        lockstep-agent init --config "$dir/$name/agent.toml" >/dev/null
        lockstep-agent bind --config "$dir/$name/agent.toml" >/dev/null
        lockstep-agent identity --config "$dir/$name/agent.toml" >"$dir/run/$name.identity"
    done
    for name in "${keystores[@]}"; do
        for other in "${keystores[@]}"; do
            [ "$name" != "$other" ] || continue
            # Targets need to know home, and home needs to know its targets.
            [ "$name" = home ] || [ "$other" = home ] || continue
            read -r keystore identity <"$dir/run/$other.identity"
            lockstep-agent peer add --config "$dir/$name/agent.toml" \
                --keystore "$keystore" --identity "$identity" >/dev/null
        done
    done
}

wait_for_file() {
    for _ in $(seq 400); do
        [ -s "$1" ] && return
        sleep 0.05
    done
    echo "nothing came at $1; the last lines of its log:" >&2
    tail -n 20 "$2" >&2
    exit 1
}

start_agent() {
    rm -f "$dir/$1/state/listen.addr"
    lockstep-agent serve --config "$dir/$1/agent.toml" 2>>"$dir/logs/$1.log" &
    echo $! >"$dir/run/$1.pid"
}

start_coordinator() {
    rm -f "$dir/coordinator/state/listen.addr"
    cat >"$dir/coordinator/coordinator.toml" <<TOML
listen = "${LOCKSTEP_DEMO_LISTEN:-127.0.0.1:0}"
state_dir = "state"
admin_token_file = "$dir/admin.token"

[fleet]
cert = "cert.pem"
key = "key.pem"
ca = "$dir/ca.pem"
TOML
    lockstep serve --config "$dir/coordinator/coordinator.toml" 2>>"$dir/logs/coordinator.log" &
    echo $! >"$dir/run/coordinator.pid"
    wait_for_file "$dir/coordinator/state/listen.addr" "$dir/logs/coordinator.log"
    echo "http://$(<"$dir/coordinator/state/listen.addr")" >"$dir/api.url"
}

start_fleet() {
    local name
    rm -rf "$dir"
    mkdir -p "$dir/run" "$dir/logs"
    for name in "${keystores[@]}" coordinator; do mkdir -p "$dir/$name"; done
    printf 'lks_%s\n' "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" >"$dir/admin.token"
    make_tokens
    make_certificates
    bind_agents
    for name in "${keystores[@]}"; do start_agent "$name"; done
    for name in "${keystores[@]}"; do
        wait_for_file "$dir/$name/state/listen.addr" "$dir/logs/$name.log"
    done
    start_coordinator
}
