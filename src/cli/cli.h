/* SPDX-License-Identifier: Apache-2.0 */
/* The commands.  A run function gives the exit status of success (0, or 3 if there were warnings)
 * or -1 with *err set; main reports that and turns its code into an exit status. */
#ifndef WR_CLI_H
#define WR_CLI_H

#include "cli/options.h"

#define WR_EXIT_WARNINGS 3

/* The table, groups in front of their commands; an entry with path NULL ends it. */
extern const struct wr_cmd wr_commands[];
/* The entry with this path, or NULL. */
const struct wr_cmd *wr_cmd_find(const char *path);
/* The longest path that argv begins with (NULL if none); *out_words tells how many words it has. */
const struct wr_cmd *wr_cmd_match(int argc, const char *const *argv, int *out_words);
/* The last words of the commands directly below a group ("" = top), ends with NULL; the caller
 * frees the array and the words in it stay borrowed. */
const char **wr_cmd_children(const char *group);

/* help.c: to standard output; cmd NULL = the top. */
void wr_help_print(const struct wr_cmd *cmd);

int wr_cmd_help(const struct wr_args *a, struct wr_err *err);
int wr_cmd_version(const struct wr_args *a, struct wr_err *err);
int wr_cmd_completion(const struct wr_args *a, struct wr_err *err);

int wr_cmd_init(const struct wr_args *a, struct wr_err *err);
int wr_cmd_volume_add(const struct wr_args *a, struct wr_err *err);
int wr_cmd_volume_list(const struct wr_args *a, struct wr_err *err);
int wr_cmd_serve(const struct wr_args *a, struct wr_err *err);
int wr_cmd_doctor(const struct wr_args *a, struct wr_err *err);
int wr_cmd_config_check(const struct wr_args *a, struct wr_err *err);
int wr_cmd_config_get(const struct wr_args *a, struct wr_err *err);
int wr_cmd_create(const struct wr_args *a, struct wr_err *err);
int wr_cmd_list(const struct wr_args *a, struct wr_err *err);
int wr_cmd_show(const struct wr_args *a, struct wr_err *err);
int wr_cmd_status(const struct wr_args *a, struct wr_err *err);
int wr_cmd_state(const struct wr_args *a, struct wr_err *err);
int wr_cmd_settings(const struct wr_args *a, struct wr_err *err);
int wr_cmd_start(const struct wr_args *a, struct wr_err *err);
int wr_cmd_stop(const struct wr_args *a, struct wr_err *err);
int wr_cmd_restart(const struct wr_args *a, struct wr_err *err);
int wr_cmd_save(const struct wr_args *a, struct wr_err *err);
int wr_cmd_snapshots(const struct wr_args *a, struct wr_err *err);
int wr_cmd_ls(const struct wr_args *a, struct wr_err *err);
int wr_cmd_cat(const struct wr_args *a, struct wr_err *err);
int wr_cmd_diff(const struct wr_args *a, struct wr_err *err);
int wr_cmd_project_find(const struct wr_args *a, struct wr_err *err);
int wr_cmd_history(const struct wr_args *a, struct wr_err *err);
int wr_cmd_restore(const struct wr_args *a, struct wr_err *err);
int wr_cmd_undo(const struct wr_args *a, struct wr_err *err);
int wr_cmd_files(const struct wr_args *a, struct wr_err *err);
int wr_cmd_read(const struct wr_args *a, struct wr_err *err);
int wr_cmd_mkdir(const struct wr_args *a, struct wr_err *err);
int wr_cmd_copy(const struct wr_args *a, struct wr_err *err);
int wr_cmd_chown(const struct wr_args *a, struct wr_err *err);
int wr_cmd_delete(const struct wr_args *a, struct wr_err *err);
int wr_cmd_undelete(const struct wr_args *a, struct wr_err *err);
int wr_cmd_purge(const struct wr_args *a, struct wr_err *err);
int wr_cmd_trash_list(const struct wr_args *a, struct wr_err *err);
int wr_cmd_trash_purge(const struct wr_args *a, struct wr_err *err);
int wr_cmd_op_list(const struct wr_args *a, struct wr_err *err);
int wr_cmd_op_show(const struct wr_args *a, struct wr_err *err);
int wr_cmd_op_wait(const struct wr_args *a, struct wr_err *err);
int wr_cmd_op_cancel(const struct wr_args *a, struct wr_err *err);
int wr_cmd_op_log(const struct wr_args *a, struct wr_err *err);
int wr_cmd_events(const struct wr_args *a, struct wr_err *err);
int wr_cmd_token_create(const struct wr_args *a, struct wr_err *err);
int wr_cmd_token_list(const struct wr_args *a, struct wr_err *err);
int wr_cmd_token_revoke(const struct wr_args *a, struct wr_err *err);
int wr_cmd_openapi(const struct wr_args *a, struct wr_err *err);
int wr_cmd_join(const struct wr_args *a, struct wr_err *err);
int wr_cmd_ca(const struct wr_args *a, struct wr_err *err);
int wr_cmd_node_add(const struct wr_args *a, struct wr_err *err);
int wr_cmd_node_list(const struct wr_args *a, struct wr_err *err);
int wr_cmd_node_show(const struct wr_args *a, struct wr_err *err);
int wr_cmd_node_set(const struct wr_args *a, struct wr_err *err);
int wr_cmd_node_remove(const struct wr_args *a, struct wr_err *err);
int wr_cmd_audit(const struct wr_args *a, struct wr_err *err);
int wr_cmd_hub_force(const struct wr_args *a, struct wr_err *err);
int wr_cmd_hub_permit_loss(const struct wr_args *a, struct wr_err *err);
int wr_cmd_replica_add(const struct wr_args *a, struct wr_err *err);
int wr_cmd_replica_remove(const struct wr_args *a, struct wr_err *err);
int wr_cmd_replicate(const struct wr_args *a, struct wr_err *err);
int wr_cmd_move(const struct wr_args *a, struct wr_err *err);
int wr_cmd_save_all(const struct wr_args *a, struct wr_err *err);
int wr_cmd_usage(const struct wr_args *a, struct wr_err *err);
int wr_cmd_quota_auto(const struct wr_args *a, struct wr_err *err);
int wr_cmd_explain(const struct wr_args *a, struct wr_err *err);
int wr_cmd_locate(const struct wr_args *a, struct wr_err *err);
int wr_cmd_fleet(const struct wr_args *a, struct wr_err *err);
int wr_cmd_top(const struct wr_args *a, struct wr_err *err);

int wr_cmd_repo_init(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_save(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_snapshots(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_ls(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_cat(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_diff(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_find(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_history(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_tag(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_branch(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_restore(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_verify(const struct wr_args *a, struct wr_err *err);
int wr_cmd_repo_stat(const struct wr_args *a, struct wr_err *err);

#endif
