# What query Q (-v q=q1 … q5) must give over the JSON records on standard input, counted without
# windrow: prints the number of result rows and the sum of the row's count (q3: of its maximum);
# with -v by_window=1 a line for each window: its start in seconds since 2000, and the two numbers.
# The records are the generators': known fields in a known order, no late rows, none broken.

# The text value of a field; numbers stand without quotes.
function field(name,   at, rest) {
  at = index($0, "\"" name "\":")
  rest = substr($0, at + length(name) + 3)
  if (substr(rest, 1, 1) == "\"") { rest = substr(rest, 2); return substr(rest, 1, index(rest, "\"") - 1) }
  match(rest, /^[0-9]+/)
  return substr(rest, 1, RLENGTH)
}

# Seconds since 1 January 2000 of YYYY-MM-DD?hh:mm:ss; that day began a window of 10 and 60 seconds.
function seconds(time,   day) {
  day = substr(time, 1, 10)
  if (!(day in days)) days[day] = day_number(substr(day, 1, 4) + 0, substr(day, 6, 2) + 0, substr(day, 9, 2) + 0)
  return days[day] * 86400 + substr(time, 12, 2) * 3600 + substr(time, 15, 2) * 60 + substr(time, 18, 2)
}

function day_number(year, month, day,   n, m) {
  n = (year - 2000) * 365 + int((year - 1997) / 4)
  for (m = 1; m < month; m++) n += (m == 2) ? 28 + (year % 4 == 0) : 30 + (m != 4 && m != 6 && m != 9 && m != 11)
  return n + day - 1
}

function window(time, size) { return time - time % size }

q == "q1" && /"action":"view"/ { count[window(seconds(field("timestamp")), 10) " " field("page")]++ }
q == "q2" { count[window(seconds(field("timestamp")), 60) " " field("song_id")]++ }
q == "q3" {
  time = seconds(field("event_time")); model = field("model"); cpu = field("cpuusage") + 0
  for (start = window(time, 10); start > time - 60; start -= 10)
    if (cpu > count[start " " model]) count[start " " model] = cpu
}
q == "q4" && /"interfacestatus":"down"/ { count[window(seconds(field("event_time")), 10) " " field("model")]++ }
q == "q5" { count[window(seconds(field("event_time")), 10) " " field("deviceid")]++ }

# The ten largest of each window, one after the other.
function top_ten(   key, parts, w, songs, n, i, best, used) {
  for (key in count) { split(key, parts, " "); songs[parts[1]] = songs[parts[1]] " " count[key] }
  for (w in songs) {
    n = split(songs[w], list, " ")
    for (i = 1; i <= 10 && i <= n; i++) {
      best = i
      for (used = i + 1; used <= n; used++) if (list[used] + 0 > list[best] + 0) best = used
      used = list[i]; list[i] = list[best]; list[best] = used
      add(w, list[i])
    }
  }
}

function add(w, number) { if (!by_window) w = "all"; rows[w]++; total[w] += number }

END {
  if (q == "q2") top_ten()
  else for (key in count) add(substr(key, 1, index(key, " ") - 1), count[key])
  if (by_window) for (w in rows) printf "%d %d %d\n", w, rows[w], total[w]
  else printf "%d %d\n", rows["all"], total["all"]
}
