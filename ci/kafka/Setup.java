import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialAlteration;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * Waits until a broker that ci/kafka.sh has started answers on both listeners, and gives it the users, rights and topics
 * that Strimzi would make of the YAML files given: what is tested is what is shipped. A field of the files that it does
 * not know is an error, never left out.
 *
 * <pre>Setup apply|wait DIR BROKER_PIDS SECONDS PLAINTEXT_SERVERS SASL_SERVERS [FILE.yaml...]</pre>
 *
 * Pids and servers are lists with commas, in the same order, for several brokers.
 *
 * {@code apply} is for a new broker; it makes the passwords too, as files in DIR/passwords. {@code wait} is for one that
 * has its data from before, and changes nothing. Exits 0 when all of it is in force and each broker answers, 1 with the reason
 * on stderr, and 3 if a broker has ended meanwhile.
 */
public final class Setup {
    /** Users for tests only: no KafkaUser resource gives them rights. The second is a super user of the broker. */
    private static final List<String> TEST_USERS = List.of("user-nobody", "user-admin");
    private static final String ADMIN = "user-admin";
    private static final int SCRAM_ITERATIONS = 4096;
    private static final long INTERVAL_MS = 50;

    record Resource(String apiVersion, String kind, Metadata metadata, JsonNode spec) {}

    record Metadata(String name, Map<String, String> labels, Map<String, String> annotations) {}

    record UserSpec(Authentication authentication, Authorization authorization) {}

    record Authentication(String type) {}

    record Authorization(String type, List<Acl> acls) {}

    record Acl(String type, AclResource resource, String host, List<String> operations) {}

    record AclResource(String type, String name, String patternType) {}

    record TopicSpec(String topicName, int partitions, short replicas, Map<String, String> config) {}

    private final Set<String> users = new TreeSet<>(TEST_USERS);
    private final Set<AclBinding> acls = new HashSet<>();
    private final Map<String, TopicSpec> topics = new HashMap<>();
    private final long deadline;

    private Setup(long deadline) {
        this.deadline = deadline;
    }

    public static void main(String[] args) {
        try {
            Path dir = Path.of(args[1]);
            for (String pid : args[2].split(",")) {
                ProcessHandle.of(Long.parseLong(pid)).orElseThrow(() -> new Failure("the broker has ended"))
                    .onExit().thenRun(() -> Runtime.getRuntime().halt(3));
            }
            int seconds = Integer.parseInt(args[3]);
            Setup setup = new Setup(System.currentTimeMillis() + seconds * 1000L);
            for (String server : args[4].split(",")) {
                try (Admin admin = Admin.create(setup.client(server))) {
                    setup.await("an answer on PLAINTEXT " + server, () -> answers(admin));
                }
            }
            try (Admin admin = Admin.create(setup.client(args[4]))) {
                int nodes = args[4].split(",").length;
                if (args[0].equals("apply")) {
                    for (String file : List.of(args).subList(6, args.length)) {
                        setup.read(Path.of(file));
                    }
                    Map<String, String> passwords = setup.makePasswords(dir.resolve("passwords"));
                    setup.await("all brokers", () -> admin.describeCluster().nodes().get().size() == nodes);
                    setup.apply(admin, passwords);
                }
            }
            for (String server : args[5].split(",")) {
                try (Admin admin = Admin.create(setup.saslClient(dir, server))) {
                    setup.await("an answer on SASL_SSL " + server, () -> answers(admin));
                }
            }
            System.exit(0);
        } catch (Exception error) {
            System.err.println("Setup of the broker failed: " + (error instanceof Failure ? error.getMessage() : error));
            System.exit(1);
        }
    }

    // What the files ask for.

    private void read(Path file) throws IOException {
        ObjectMapper yaml = new ObjectMapper(new YAMLFactory())
            .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES);
        try (var documents = yaml.readerFor(Resource.class).<Resource>readValues(file.toFile())) {
            while (documents.hasNextValue()) {
                Resource resource = documents.nextValue();
                String name = resource.metadata.name;
                switch (resource.kind) {
                    case "KafkaUser" -> addUser(name, yaml.treeToValue(resource.spec, UserSpec.class));
                    case "KafkaTopic" -> {
                        TopicSpec spec = yaml.treeToValue(resource.spec, TopicSpec.class);
                        topics.put(Optional.ofNullable(spec.topicName).orElse(name), spec);
                    }
                    default -> throw new Failure(file + ": what is a " + resource.kind + "?");
                }
            }
        }
    }

    private void addUser(String name, UserSpec spec) {
        if (!"scram-sha-512".equals(spec.authentication.type)) {
            throw new Failure(name + ": authentication is not scram-sha-512");
        }
        users.add(name);
        if (spec.authorization == null) {
            return;
        }
        for (Acl acl : spec.authorization.acls) {
            var pattern = new ResourcePattern(resourceType(acl.resource.type), resourceName(acl.resource),
                "prefix".equals(acl.resource.patternType) ? PatternType.PREFIXED : PatternType.LITERAL);
            var permission = "deny".equals(acl.type) ? AclPermissionType.DENY : AclPermissionType.ALLOW;
            for (String operation : acl.operations) {
                acls.add(new AclBinding(pattern, new AccessControlEntry("User:" + name,
                    Optional.ofNullable(acl.host).orElse("*"), aclOperation(operation), permission)));
            }
        }
    }

    private static ResourceType resourceType(String type) {
        return switch (type) {
            case "topic" -> ResourceType.TOPIC;
            case "group" -> ResourceType.GROUP;
            case "cluster" -> ResourceType.CLUSTER;
            case "transactionalId" -> ResourceType.TRANSACTIONAL_ID;
            default -> throw new Failure("no type of resource: " + type);
        };
    }

    private static String resourceName(AclResource resource) {
        return resource.type.equals("cluster") ? "kafka-cluster" : resource.name;
    }

    /** {@code DescribeConfigs} is {@code DESCRIBE_CONFIGS} here. */
    private static AclOperation aclOperation(String name) {
        AclOperation operation = AclOperation.fromString(name.replaceAll("(?<=[a-z])(?=[A-Z])", "_"));
        if (operation.isUnknown()) {
            throw new Failure("no operation: " + name);
        }
        return operation;
    }

    private Map<String, String> makePasswords(Path folder) throws IOException {
        Files.createDirectories(folder, PosixFilePermissions.asFileAttribute(
            PosixFilePermissions.fromString("rwx------")));
        var random = new SecureRandom();
        Map<String, String> passwords = new HashMap<>();
        for (String user : users) {
            byte[] bytes = new byte[24];
            random.nextBytes(bytes);
            String password = HexFormat.of().formatHex(bytes);
            Path file = Files.createFile(folder.resolve(user), PosixFilePermissions.asFileAttribute(
                PosixFilePermissions.fromString("rw-------")));
            Files.writeString(file, password + "\n");
            passwords.put(user, password);
        }
        return passwords;
    }

    // What the broker is asked for.

    private void apply(Admin admin, Map<String, String> passwords) throws Exception {
        int nodes = admin.describeCluster().nodes().get().size();
        List<UserScramCredentialAlteration> credentials = new ArrayList<>();
        var info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS);
        passwords.forEach((user, password) ->
            credentials.add(new UserScramCredentialUpsertion(user, info, password)));
        List<NewTopic> wanted = new ArrayList<>();
        topics.forEach((name, spec) -> wanted.add(topic(name, spec, nodes)));

        List<KafkaFuture<Void>> done = List.of(admin.alterUserScramCredentials(credentials).all(),
            admin.createAcls(acls).all(), admin.createTopics(wanted).all());
        for (KafkaFuture<Void> each : done) {
            each.get();
        }
        // Each is in force once the broker, and not only the controller, knows it.
        await("the users", () -> admin.describeUserScramCredentials(List.copyOf(users)).all().get().size()
            == users.size());
        await("the rights", () -> new HashSet<>(admin.describeAcls(AclBindingFilter.ANY).values().get()).equals(acls));
        await("the topics", () -> admin.describeTopics(topics.keySet()).allTopicNames().get().values().stream()
            .allMatch(topic -> topic.partitions().stream().allMatch(partition -> partition.leader() != null)));
        // The first question after a group makes the topic of offsets, which takes a while.
        await("the coordinator of groups", () ->
            admin.listConsumerGroupOffsets("wf-none").partitionsToOffsetAndMetadata().get() != null);
    }

    /** The topic as the file has it; where it asks for more replicas than there are nodes, with as many as there are. */
    private static NewTopic topic(String name, TopicSpec spec, int nodes) {
        Map<String, String> config = new HashMap<>(spec.config);
        config.computeIfPresent("min.insync.replicas", (key, value) ->
            String.valueOf(Math.min(Integer.parseInt(value), nodes)));
        return new NewTopic(name, spec.partitions, (short) Math.min(spec.replicas, nodes)).configs(config);
    }

    private static boolean answers(Admin admin) throws Exception {
        return !admin.describeCluster().nodes().get().isEmpty();
    }

    /** Asks until the answer is yes; errors count as no, until time is up. */
    private void await(String what, Callable<Boolean> asked) throws InterruptedException {
        String last = "the answer is no";
        while (System.currentTimeMillis() < deadline) {
            try {
                if (asked.call()) {
                    return;
                }
            } catch (ExecutionException error) {
                last = String.valueOf(error.getCause());
            } catch (Exception error) {
                last = error.toString();
            }
            Thread.sleep(INTERVAL_MS);
        }
        throw new Failure("waited in vain for " + what + ": " + last);
    }

    private Map<String, Object> client(String servers) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", servers);
        config.put("client.id", "setup");
        config.put("reconnect.backoff.ms", 50);
        config.put("reconnect.backoff.max.ms", 200);
        config.put("request.timeout.ms", 5000);
        config.put("default.api.timeout.ms", 10000);
        return config;
    }

    private Map<String, Object> saslClient(Path dir, String servers) throws IOException {
        String password = Files.readString(dir.resolve("passwords").resolve(ADMIN)).strip();
        Map<String, Object> config = client(servers);
        config.put("security.protocol", "SASL_SSL");
        config.put("ssl.truststore.type", "PEM");
        config.put("ssl.truststore.location", dir.resolve("tls/ca.crt").toString());
        config.put("sasl.mechanism", "SCRAM-SHA-512");
        config.put("sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required "
            + "username=\"" + ADMIN + "\" password=\"" + password + "\";");
        return config;
    }

    /** Something that the one who started this can understand without a stack trace. */
    private static final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Failure(String message) {
            super(message);
        }
    }
}
