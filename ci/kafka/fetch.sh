# shellcheck shell=bash disable=SC2034,SC2154 # what it sets is for ci/kafka.sh, which gives it `home`, `say` and `fail`
# Sourced by ci/kafka.sh. Makes sure of the tools and the jars, and sets
#   version   the version of Kafka
#   cache     where its jars are; what they are made from is part of the folders' names, so nothing there goes stale
#   jars, classes    folders: Kafka and what it needs; the compiled Setup.java
#   java      the command for a small JVM with Kafka on its class path
#   archiving what makes a broker write the archive of its classes when it ends, in the one run that is for this

version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$home/kafka/pom.xml")
cache="${XDG_CACHE_HOME:-$HOME/.cache}/streamforge/kafka-$version"
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.11.0

digest() { sha256sum | cut -c1-12; }
jars="$cache/jars-$(digest <"$home/kafka/pom.xml")"
classes="$cache/setup-$(cat "$home/kafka/pom.xml" "$home/kafka/Setup.java" | digest)"

# Kafka needs Java 17 or newer; the first such of JAVA_HOME, PATH and where Debian puts them.
find_java() {
    local candidate major
    for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java)" /usr/lib/jvm/*/bin/java; do
        [ -x "$candidate" ] || continue
        major=$("$candidate" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p;T;q')
        [ "${major:-0}" -ge 17 ] && { printf '%s' "$candidate"; return 0; }
    done
    return 1
}

# What is missing, as Debian packages. Maven is needed only to fetch.
missing() {
    find_java >/dev/null || echo openjdk-17-jre-headless
    command -v openssl >/dev/null || echo openssl
    command -v setsid >/dev/null || echo util-linux
    [ -d "$jars" ] || command -v mvn >/dev/null || echo maven
}

install_missing() {
    local as_root="" lacking
    [ -r /proc/self/cmdline ] || fail "this needs Linux"
    lacking=$(missing | paste -sd' ')
    [ -n "$lacking" ] || return 0
    [ "$(id -u)" = 0 ] || as_root="sudo -n"
    if command -v apt-get >/dev/null && { [ -z "$as_root" ] || sudo -n true 2>/dev/null; }; then
        $as_root apt-get update -qq >&2 || true
        # Releases differ in which Java they have.
        [ "${lacking#openjdk-17}" = "$lacking" ] || apt-cache show openjdk-17-jre-headless >/dev/null 2>&1 ||
            lacking=${lacking/openjdk-17-jre-headless/default-jre-headless}
        say "installing with apt: $lacking"
        # shellcheck disable=SC2086 # both are lists of words
        # Another one may be installing at the same time.
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq -y \
            --no-install-recommends $lacking >/dev/null ||
            say "apt could not install them"
    fi
    lacking=$(missing | paste -sd' ')
    [ -z "$lacking" ] || fail "this needs Java 17 or newer, openssl, setsid and, the first time, Maven;" \
        "missing (by their names in Debian and Ubuntu): $lacking. Install with: sudo apt-get install $lacking"
}

fetch_jars() {
    [ -d "$jars" ] && return 0
    local new
    new=$(mktemp -d "$cache/new.XXXXXX")
    say "fetching Apache Kafka $version with Maven"
    mvn --batch-mode --quiet --file "$home/kafka/pom.xml" "$plugin:copy-dependencies" \
        -DincludeScope=runtime -DoutputDirectory="$new" >"$new/log" 2>&1 ||
        { cat "$new/log" >&2; rm -rf "$new"; fail "Maven could not fetch Kafka"; }
    rm "$new/log"
    mv "$new" "$jars"
}

compile_setup() {
    [ -d "$classes" ] && return 0
    local new
    new=$(mktemp -d "$cache/new.XXXXXX")
    "$java_command" -cp "$jars/*" org.eclipse.jdt.internal.compiler.batch.Main -17 -proc:none \
        -cp "$(printf '%s:' "$jars"/*.jar)" -d "$new" "$home/kafka/Setup.java" >&2 ||
        { rm -rf "$new"; fail "ci/kafka/Setup.java does not compile"; }
    mv "$new" "$classes"
}

# A JVM that has its classes from an archive starts in half the time. It is written by a broker that is started and
# stopped once; without it all works too.
make_archive() {
    local try
    [ -e "$archive" ] && return 0
    say "trying it out once, so that it starts faster from now on"
    try=$(mktemp -d "$cache/new.XXXXXX")
    if "$home/kafka.sh" start --dir "$try/kafka" --archive "$try/archive" 9>&- >"$try/log" 2>&1 &&
        "$home/kafka.sh" stop --keep --dir "$try/kafka" >>"$try/log" 2>&1 && [ -s "$try/archive" ]; then
        mv "$try/archive" "$archive"
    else
        say "that failed, so it starts slower: $(tail -n 5 "$try/log")"
    fi
    "$home/kafka.sh" stop --dir "$try/kafka" >>"$try/log" 2>&1 || true
    rm -rf "$try"
}

install_missing
java_command=$(find_java)
archive="$cache/archive-$({ echo "$classes" "$java_command"; "$java_command" -version 2>&1; } | digest)"
archiving=()
mkdir -p "$cache"
if [ -n "$archive_to" ]; then
    archiving=("-XX:ArchiveClassesAtExit=$archive_to")
elif ! { [ -d "$jars" ] && [ -d "$classes" ] && [ -e "$archive" ]; }; then
    # One at a time: several brokers may be started at once.
    exec 9>"$cache/lock"
    flock 9
    fetch_jars
    compile_setup
    make_archive
    exec 9>&-
fi
# Starting fast is what counts, and being small.
java=("$java_command" -Xms32m -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData
    "-Dlog4j2.configurationFile=$home/kafka/log4j2.properties" -cp "$jars/*:$classes")
[ -n "$archive_to" ] || [ ! -e "$archive" ] || java+=("-XX:SharedArchiveFile=$archive")
