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
