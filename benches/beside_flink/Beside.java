import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/** Runs the cases with Flink: Beside TABLES CASES RESULTS. A line of RESULTS is a case's line, OK or ERROR, and its rows as JSON. */
public class Beside {
  static final DateTimeFormatter TIMESTAMP = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSSSSS");
  /** Expressions that run in one job. */
  static final int TOGETHER = 12;

  final TableEnvironment env = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
  final List<String> cases;
  final List<String> results = new ArrayList<>();

  Beside(String tables, List<String> cases) {
    this.cases = cases;
    env.getConfig().set("parallelism.default", "1");
    env.getConfig().set("table.local-time-zone", "UTC");
    for (String table : tables.split(";")) {
      if (!table.isBlank()) env.executeSql(table.strip());
    }
  }

  public static void main(String[] args) throws Exception {
    Beside beside = new Beside(Files.readString(Path.of(args[0])), Files.readAllLines(Path.of(args[1])));
    beside.expressions();
    beside.queries();
    Files.write(Path.of(args[2]), beside.results);
    System.exit(0);
  }

  void expressions() {
    List<Integer> valid = new ArrayList<>();
    for (int line = 0; line < cases.size(); line++) {
      if (!cases.get(line).startsWith("E ")) continue;
      try {
        env.sqlQuery("SELECT id, " + cases.get(line).substring(2) + " FROM ev").explain();
        valid.add(line);
      } catch (Exception e) {
        failed(line, e);
      }
    }
    for (int from = 0; from < valid.size(); from += TOGETHER) {
      List<Integer> some = valid.subList(from, Math.min(valid.size(), from + TOGETHER));
      try {
        together(some);
      } catch (Exception e) {
        for (int line : some) {
          try {
            together(List.of(line));
          } catch (Exception alone) {
            failed(line, alone);
          }
        }
      }
    }
  }

  void together(List<Integer> lines) throws Exception {
    StringBuilder query = new StringBuilder("SELECT id");
    for (int line : lines) query.append(", ").append(cases.get(line).substring(2));
    TreeMap<Integer, Row> rows = new TreeMap<>();
    try (CloseableIterator<Row> it = env.executeSql(query + " FROM ev").collect()) {
      it.forEachRemaining(row -> rows.put((Integer) row.getField(0), row));
    }
    for (int i = 0; i < lines.size(); i++) {
      List<String> values = new ArrayList<>();
      for (Row row : rows.values()) values.add(json(row.getField(i + 1)));
      results.add(lines.get(i) + "\tOK\t" + values);
    }
  }

  void queries() {
    for (int line = 0; line < cases.size(); line++) {
      if (!cases.get(line).startsWith("Q ")) continue;
      // What is left when all changes have been made.
      List<String> rows = new ArrayList<>();
      try (CloseableIterator<Row> it = env.executeSql(cases.get(line).substring(2)).collect()) {
        while (it.hasNext()) {
          Row row = it.next();
          switch (row.getKind()) {
            case INSERT, UPDATE_AFTER -> rows.add(json(row));
            default -> rows.remove(json(row));
          }
        }
        Collections.sort(rows);
        results.add(line + "\tOK\t" + rows);
      } catch (Exception e) {
        failed(line, e);
      }
    }
  }

  void failed(int line, Throwable e) {
    String message = "";
    for (Throwable cause = e; cause != null; cause = cause.getCause()) {
      if (cause.getMessage() != null) message = cause.getMessage();
    }
    results.add(line + "\tERROR\t" + message.split("\n")[0]);
  }

  static String json(Object value) {
    if (value == null) return "null";
    if (value instanceof java.math.BigDecimal number) return number.toPlainString();
    if (value instanceof Number || value instanceof Boolean) return value.toString();
    if (value instanceof LocalDateTime time) return quoted(time.format(TIMESTAMP));
    if (value instanceof Instant time) return quoted(time.atOffset(ZoneOffset.UTC).format(TIMESTAMP));
    if (value instanceof LocalTime time) return quoted(time.format(DateTimeFormatter.ofPattern("HH:mm:ss")));
    if (value instanceof byte[] bytes) return quoted(java.util.Base64.getEncoder().encodeToString(bytes));
    List<String> parts = new ArrayList<>();
    if (value instanceof Row row) {
      for (int i = 0; i < row.getArity(); i++) parts.add(json(row.getField(i)));
      return parts.toString();
    }
    if (value instanceof Map<?, ?> map) {
      map.forEach((key, entry) -> parts.add(json(key) + ": " + json(entry)));
      return "{" + String.join(", ", parts) + "}";
    }
    if (value.getClass().isArray()) {
      int length = java.lang.reflect.Array.getLength(value);
      for (int i = 0; i < length; i++) parts.add(json(java.lang.reflect.Array.get(value, i)));
      return parts.toString();
    }
    return quoted(value.toString());
  }

  static String quoted(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') out.append('\\').append(c);
      else if (c < ' ') out.append(String.format("\\u%04x", (int) c));
      else out.append(c);
    }
    return out.append('"').toString();
  }
}
