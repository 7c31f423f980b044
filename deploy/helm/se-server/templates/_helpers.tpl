{{- define "se-server.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "se-server.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "se-server.labels" -}}
{{ include "se-server.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* A stop takes the notice, the drain time, the grace of answers, the exit hooks and 20 s more; 5 s are in reserve. */}}
{{- define "se-server.gracePeriodSeconds" -}}
{{ add (int .Values.drain.noticeSeconds) (int .Values.drain.timeoutSeconds) (int .Values.drain.turnGraceSeconds) (int .Values.drain.exitTimeoutSeconds) 20 5 }}
{{- end }}

{{- /* Whole MiB of a size such as 512MiB, 1.5 GiB or 2Gi, rounded to the next below; empty for other units. */}}
{{- define "se-server.mebibytes" -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- if hasSuffix "Mi" (trimSuffix "B" .) }}{{ int $number }}{{ else if hasSuffix "Gi" (trimSuffix "B" .) }}{{ int (mulf $number 1024) }}{{ end -}}
{{- end }}

{{- /* Errors that the schema cannot express. */}}
{{- define "se-server.check" -}}
{{- $values := .Values -}}
{{- if has .Values.path (list "/healthz" "/livez" "/readyz" "/available") }}{{ fail (printf "path: %s is one of the server's own paths; choose another, such as /ws" .Values.path) }}{{ end -}}
{{- if not (or .Values.image.tag .Values.image.digest) }}{{ fail "image: give image.tag or image.digest" }}{{ end -}}
{{- if not .Values.admin.enabled -}}
  {{- if .Values.serviceMonitor.enabled }}{{ fail "serviceMonitor.enabled needs admin.enabled: metrics are served there" }}{{ end -}}
  {{- if .Values.podDeletionCost.enabled }}{{ fail "podDeletionCost.enabled needs admin.enabled: the observer writes the cost" }}{{ end -}}
{{- else if has (int .Values.admin.port) (list 3001 (int .Values.service.port)) }}{{ fail (printf "admin.port: %d is the port of conversations; choose another" (int .Values.admin.port)) }}{{ end -}}
{{- if .Values.keda.enabled -}}
  {{- if not .Values.serviceMonitor.enabled }}{{ fail "keda.enabled needs serviceMonitor.enabled: the scaler reads se_server_load_ratio from Prometheus" }}{{ end -}}
  {{- if gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas) }}{{ fail (printf "keda: minReplicas (%d) is more than maxReplicas (%d)" (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas)) }}{{ end -}}
{{- end -}}
{{- $set := dict "--path" "path" "--trusted-proxies" "trustedProxies" "--workers" "workers" "--max-sessions" "maxSessions" "--max-worker-rss" "maxWorkerRss" "--drain-notice-s" "drain.noticeSeconds" "--drain-timeout-s" "drain.timeoutSeconds" "--drain-turn-grace-s" "drain.turnGraceSeconds" "--exit-timeout-s" "drain.exitTimeoutSeconds" "--admin" "admin.enabled and admin.port" "--admin-token-file" "admin.tokenSecret" "--pod-deletion-cost" "podDeletionCost.enabled" -}}
{{- $given := list -}}
{{- range .Values.extraArgs }}{{ $given = append $given (list "extraArgs" (first (splitList "=" .))) }}{{ end -}}
{{- range .Values.extraEnv -}}
  {{- if hasPrefix "SE_SERVER_" .name }}{{ $given = append $given (list "extraEnv" (printf "--%s" (trimPrefix "SE_SERVER_" .name | lower | replace "_" "-"))) }}{{ end -}}
{{- end -}}
{{- range $given -}}
  {{- $where := first . -}}
  {{- $name := last . -}}
  {{- if hasKey $set $name }}{{ fail (printf "%s: the chart gives %s itself; set %s" $where $name (get $set $name)) }}{{ end -}}
  {{- if has $name (list "--port" "--host" "--uds" "--fd" "--certfile" "--proxy-protocol") }}{{ fail (printf "%s: with %s the probes, which ask port 3001 by plain HTTP, would fail" $where $name) }}{{ end -}}
{{- end -}}
{{- $limit := include "se-server.mebibytes" (dig "limits" "memory" "" (.Values.resources | default dict) | toString) -}}
{{- if $limit -}}
  {{- $wanted := mul (add (int .Values.workers) 1) (include "se-server.mebibytes" .Values.maxWorkerRss | int) -}}
  {{- if gt $wanted (int64 $limit) }}{{ fail (printf "resources.limits.memory: %d workers of maxWorkerRss (%s), and one more while one is replaced, need %dMi at least, and the limit is %s" (int .Values.workers) .Values.maxWorkerRss $wanted .Values.resources.limits.memory) }}{{ end -}}
{{- end -}}
{{- end }}
